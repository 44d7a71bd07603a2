// SPDX-License-Identifier: MIT
// Which pages the guest changes: none may be missing, whoever writes and whoever dies.

#include "core/file.hpp"
#include "harness.hpp"
#include "image/page_bitmap.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

namespace thaw::test {
namespace {

using protocol::ControlType;
using protocol::TrackState;
using std::chrono::milliseconds;

constexpr std::uint64_t kSize = 16 << 20;
constexpr std::uint64_t kPages = kSize / kPage;

// Threads that read, write and give back pages at random. What came of it is judged by looking.
class Mutators {
public:
    Mutators(const Guest& guest, unsigned seed) {
        for (unsigned part = 0; part < 3; ++part)
            threads_.emplace_back([this, &guest, part, seed] { run(guest, part, seed); });
    }
    ~Mutators() { stop(); }
    // As a VM that is paused: nothing is written from now on.
    void stop() {
        stop_ = true;
        for (auto& thread : threads_)
            if (thread.joinable()) thread.join();
    }
    std::uint64_t operations() const { return operations_; }

private:
    void run(const Guest& guest, unsigned part, unsigned seed) {
        std::mt19937_64 random(seed * 10 + part);
        while (!stop_) {
            const std::uint64_t page = random() % (kPages / 3) * 3 + part;
            switch (random() % 8) {
            case 0:
                *guest.at(page) = random();
                break;
            case 1:
                guest.remove(page, 1);
                break;
            default:
                static_cast<void>(*guest.at(page));
            }
            ++operations_;
        }
    }
    std::atomic<bool> stop_ = false;
    std::atomic<std::uint64_t> operations_ = 0;
    std::vector<std::thread> threads_;
};

class Tracking : public ::testing::TestWithParam<const char*> {
protected:
    BrokerOptions options(bool track = true) const {
        BrokerOptions options;
        options.engine = GetParam();
        options.track = track;
        return options;
    }
    static void expect_state(Broker& broker, TrackState state) {
        EXPECT_TRUE(eventually([&] {
            return broker.state().tracking == static_cast<std::uint32_t>(state);
        })) << "tracking is "
            << protocol::track_state_name(broker.state().tracking);
    }
    // What the broker takes while the guest stands still.
    static std::optional<image::PageBitmap> take(Broker& broker, const WorkerProcess& worker) {
        const auto number = broker.memory().request_vouching();
        Broker::attend(worker);
        const bool vouched = eventually([&] {
            return broker.state().vouched == number ||
                   broker.state().tracking == static_cast<std::uint32_t>(TrackState::Failed);
        });
        EXPECT_TRUE(vouched);
        if (!vouched || broker.state().vouched != number) return std::nullopt;
        const auto words = broker.memory().dirty_bitmap();
        return image::PageBitmap::decode(std::as_bytes(std::span(words)), kPages).value();
    }
    // What a difference would hold that is made now: the dirty pages that are resident, zeros for
    // those that are not, and the base for the others. How many of its pages are not as the
    // guest's; `as_before` says whether a page is as in the base.
    static std::uint64_t lost(
        const Guest& guest, const image::PageBitmap& dirty,
        const std::function<bool(std::uint64_t)>& as_before
    ) {
        std::vector<bool> resident(kPages);
        for (std::uint64_t page = 0; page < kPages; ++page) {
            unsigned char flags = 0;
            EXPECT_EQ(::mincore(guest.address(page), kPage, &flags), 0);
            resident[page] = (flags & 1) != 0;
        }
        std::uint64_t count = 0;
        for (std::uint64_t page = 0; page < kPages; ++page) {
            if (!dirty.test(page))
                count += as_before(page) ? 0 : 1;
            else if (!resident[page])
                count += guest.is_zero(page) ? 0 : 1;
        }
        return count;
    }
    static bool is_of_image(const Guest& guest, std::uint64_t page) {
        return TestImage::matches(guest.address(page), page);
    }
    HangGuard guard_{90};
};
INSTANTIATE_TEST_SUITE_P(Engines, Tracking, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(Tracking, NothingThatChangedIsMissing) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize, .split = 5 << 20});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    expect_state(broker, TrackState::Armed);
    Mutators mutators(guest, 1);
    EXPECT_TRUE(eventually([&] { return mutators.operations() > 30'000; }));
    mutators.stop();
    const auto dirty = take(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_EQ(lost(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U);
    EXPECT_GT(broker.counters().write_faults, 0U);
    EXPECT_GT(dirty->count(), 0U);
}

// A superset that names everything would be right as well, and useless.
TEST_P(Tracking, WhatIsOnlyReadStaysClean) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    for (std::uint64_t page = 0; page < kPages; ++page)
        EXPECT_TRUE(is_of_image(guest, page));
    *guest.at(1) = 7;     // present and protected
    *guest.at(100) = 7;   // the same
    guest.remove(200, 4); // reads as zeros from now on
    auto dirty = take(broker, worker);
    ASSERT_TRUE(dirty);
    for (std::uint64_t page = 0; page < kPages; ++page) {
        const bool written = page == 1 || page == 100 || (page >= 200 && page < 204);
        EXPECT_EQ(dirty->test(page), written || TestImage::is_zero(page)) << page;
    }
}

TEST_P(Tracking, AMissingPageThatIsWrittenFirstIsNoted) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    *guest.at(5) = 7;
    const auto faults = broker.counters().faults.load();
    EXPECT_EQ(faults, 1U) << "one fault, not one to load it and one to write";
    const auto dirty = take(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_TRUE(dirty->test(5));
    EXPECT_FALSE(dirty->test(6));
}

// The kernel writes for somebody else: a read() into guest memory, as a VMM's block device does.
TEST_P(Tracking, WhatTheKernelWritesIsNoted) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    EXPECT_TRUE(is_of_image(guest, 9));
    ASSERT_EQ(
        ::pread(image.memory(), guest.address(9), kPage, 100 * kPage), static_cast<ssize_t>(kPage)
    );
    ASSERT_EQ(
        ::pread(image.memory(), guest.address(11), kPage, 100 * kPage),
        static_cast<ssize_t>(kPage)
    ); // not there before
    const auto dirty = take(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_TRUE(dirty->test(9));
    EXPECT_FALSE(dirty->test(10));
    EXPECT_TRUE(dirty->test(11));
}

TEST_P(Tracking, BeginsWhileTheGuestStandsStill) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize, .split = 5 << 20});
    Broker broker(image, guest, options(false));
    auto worker = broker.start_ready();
    {
        const Mutators before(guest, 2);
        EXPECT_TRUE(eventually([&] { return before.operations() > 10'000; }));
    }
    broker.memory().request_tracking(true);
    Broker::attend(worker);
    expect_state(broker, TrackState::Armed);
    // As it is now: what a whole image made in this moment would hold.
    std::vector<std::byte> base(kSize);
    for (std::uint64_t page = 0; page < kPages; ++page)
        std::memcpy(&base[page * kPage], guest.address(page), kPage);
    Mutators after(guest, 3);
    EXPECT_TRUE(eventually([&] { return after.operations() > 10'000; }));
    after.stop();
    const auto dirty = take(broker, worker);
    ASSERT_TRUE(dirty);
    const auto as_before = [&](std::uint64_t page) {
        return std::memcmp(&base[page * kPage], guest.address(page), kPage) == 0;
    };
    EXPECT_EQ(lost(guest, *dirty, as_before), 0U);
    EXPECT_LT(dirty->count(), kPages);
}

TEST_P(Tracking, EndsWithoutAnybodyWaiting) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize, .split = 5 << 20});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    for (std::uint64_t page = 0; page < kPages; ++page)
        static_cast<void>(*guest.at(page));
    broker.memory().request_tracking(false);
    Broker::attend(worker);
    expect_state(broker, TrackState::Off);
    // Nobody is there to let a writer go on, and nobody is needed.
    worker.kill();
    for (std::uint64_t page = 0; page < kPages; ++page)
        *guest.at(page) = page;
    EXPECT_EQ(broker.counters().write_faults, 0U);
}

// Fresh memory mapped over the guest's own, as old balloons do: no event tells, so proof is asked.
TEST_P(Tracking, MemoryThatWasReplacedIsNotVouchedFor) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    for (std::uint64_t page = 0; page < kPages; ++page)
        static_cast<void>(*guest.at(page));
    ASSERT_TRUE(take(broker, worker));
    void* const fresh = ::mmap(
        guest.address(300), 2 * kPage, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0
    );
    ASSERT_NE(fresh, MAP_FAILED);
    EXPECT_FALSE(take(broker, worker));
    EXPECT_EQ(broker.state().tracking, static_cast<std::uint32_t>(TrackState::Failed));
    EXPECT_NE(broker.state().track_errno, 0U);
    // The guest runs on, and everybody may write.
    for (std::uint64_t page = 0; page < kPages; ++page)
        *guest.at(page) = page;
}

TEST_P(Tracking, GoesOnWhileAllPagesAreLoaded) {
    const TestImage image(kSize);
    const Guest guest({.size = kSize, .split = 5 << 20});
    Broker broker(image, guest, options());
    broker.memory().request_populate(true);
    auto worker = broker.start_ready();
    Mutators mutators(guest, 4);
    EXPECT_TRUE(worker.receive(ControlType::Complete));
    mutators.stop();
    const auto dirty = take(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_EQ(lost(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U);
    *guest.at(2) = 3;
    EXPECT_TRUE(take(broker, worker)->test(2));
}

unsigned kills_wanted() {
    const char* text = std::getenv("THAW_TEST_KILLS");
    return text == nullptr ? 60 : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

// Bits and protection outlive each worker, also one that dies while it arms or vouches.
TEST_P(Tracking, TrackersKilledAtRandomMoments) {
    const unsigned kills = kills_wanted();
    const HangGuard longer(90 + kills / 5);
    std::mt19937_64 random(5);
    std::uint64_t operations = 0;
    std::uint64_t bits = 0;
    // Anew for every ten kills: with time every page would be dirty.
    for (unsigned done = 0; done < kills;) {
        const TestImage image(kSize);
        const Guest guest({.size = kSize, .split = 5 << 20});
        Broker broker(image, guest, options());
        auto worker = broker.start();
        Mutators mutators(guest, done);
        for (unsigned round = 0; round < 10; ++round, ++done) {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
            if (random() % 3 == 0) {
                broker.memory().request_vouching();
                Broker::attend(worker);
            }
            worker.kill();
            worker = broker.start();
            if (random() % 4 != 0 && !broker.is_ready(worker)) break;
        }
        mutators.stop();
        operations += mutators.operations();
        const auto dirty = take(broker, worker);
        ASSERT_TRUE(dirty);
        bits += dirty->count();
        ASSERT_EQ(lost(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U);
    }
    std::printf(
        "%s: %u kills, %lu operations, %lu pages dirty\n", GetParam(), kills, operations, bits
    );
}

TEST_P(Tracking, TrackersKilledWhileTheyArm) {
    const TestImage image(kSize);
    std::mt19937_64 random(6);
    for (unsigned round = 0; round < 10; ++round) {
        const Guest guest({.size = kSize});
        Broker broker(image, guest, options(false));
        auto worker = broker.start_ready();
        for (std::uint64_t page = 0; page < kPages; ++page)
            *guest.at(page) = page + 1; // all of them present and writable
        broker.memory().request_tracking(true);
        Broker::attend(worker);
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 400));
        worker.kill();
        worker = broker.start_ready();
        expect_state(broker, TrackState::Armed);
        for (std::uint64_t page = round; page < kPages; page += 7)
            *guest.at(page) = 0;
        const auto dirty = take(broker, worker);
        ASSERT_TRUE(dirty);
        const auto as_before = [&](std::uint64_t page) { return *guest.at(page) == page + 1; };
        EXPECT_EQ(lost(guest, *dirty, as_before), 0U);
        EXPECT_EQ(dirty->count(), (kPages - round + 6) / 7);
    }
}

} // namespace
} // namespace thaw::test
