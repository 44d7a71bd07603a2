// SPDX-License-Identifier: MIT
// Which pages the guest changes: none may be missing, whoever writes and whoever dies.

#include "core/file.hpp"
#include "kills_wanted.hpp"
#include "tracking_fixture.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

namespace thaw::test {
namespace {

using protocol::ControlType;
using protocol::TrackState;
using std::chrono::milliseconds;

constexpr std::uint64_t kTrackedSize = 16 << 20;
constexpr std::uint64_t kTrackedPages = kTrackedSize / kPage;

class Tracking : public ::testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        if (!kernel_can_protect()) GTEST_SKIP() << "this kernel cannot write-protect";
    }
    BrokerOptions options(bool track = true) const {
        BrokerOptions options;
        options.engine = GetParam();
        options.track = track;
        return options;
    }
    HangGuard guard_{90};
};
INSTANTIATE_TEST_SUITE_P(Engines, Tracking, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(Tracking, NothingThatChangedIsMissing) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize, .split = 5 << 20});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    expect_tracking(broker, TrackState::Armed);
    Mutators mutators(guest, kTrackedPages, 1);
    EXPECT_TRUE(eventually([&] { return mutators.operations() > 30'000; }));
    mutators.stop();
    const auto dirty = take_dirty(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_EQ(lost_pages(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U);
    EXPECT_GT(broker.counters().write_faults, 0U);
    EXPECT_GT(dirty->count(), 0U);
}

// A superset that names everything would be right as well, and useless.
TEST_P(Tracking, WhatIsOnlyReadStaysClean) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    for (std::uint64_t page = 0; page < kTrackedPages; ++page)
        EXPECT_TRUE(is_of_image(guest, page));
    *guest.at(1) = 7;     // present and protected
    *guest.at(100) = 7;   // the same
    guest.remove(200, 4); // reads as zeros from now on
    auto dirty = take_dirty(broker, worker);
    ASSERT_TRUE(dirty);
    for (std::uint64_t page = 0; page < kTrackedPages; ++page) {
        const bool written = page == 1 || page == 100 || (page >= 200 && page < 204);
        EXPECT_EQ(dirty->test(page), written || TestImage::is_zero(page)) << page;
    }
}

TEST_P(Tracking, AMissingPageThatIsWrittenFirstIsNoted) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    *guest.at(5) = 7;
    const auto faults = broker.counters().faults.load();
    EXPECT_EQ(faults, 1U) << "one fault, not one to load it and one to write";
    const auto dirty = take_dirty(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_TRUE(dirty->test(5));
    EXPECT_FALSE(dirty->test(6));
}

// The kernel writes for somebody else: a read() into guest memory, as a VMM's block device does.
TEST_P(Tracking, WhatTheKernelWritesIsNoted) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize});
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
    const auto dirty = take_dirty(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_TRUE(dirty->test(9));
    EXPECT_FALSE(dirty->test(10));
    EXPECT_TRUE(dirty->test(11));
}

TEST_P(Tracking, BeginsWhileTheGuestStandsStill) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize, .split = 5 << 20});
    Broker broker(image, guest, options(false));
    auto worker = broker.start_ready();
    {
        const Mutators before(guest, kTrackedPages, 2);
        EXPECT_TRUE(eventually([&] { return before.operations() > 10'000; }));
    }
    broker.memory().request_tracking(true);
    Broker::attend(worker);
    expect_tracking(broker, TrackState::Armed);
    // As it is now: what a whole image made in this moment would hold.
    std::vector<std::byte> base(kTrackedSize);
    for (std::uint64_t page = 0; page < kTrackedPages; ++page)
        std::memcpy(&base[page * kPage], guest.address(page), kPage);
    Mutators after(guest, kTrackedPages, 3);
    EXPECT_TRUE(eventually([&] { return after.operations() > 10'000; }));
    after.stop();
    const auto dirty = take_dirty(broker, worker);
    ASSERT_TRUE(dirty);
    const auto as_before = [&](std::uint64_t page) {
        return std::memcmp(&base[page * kPage], guest.address(page), kPage) == 0;
    };
    EXPECT_EQ(lost_pages(guest, *dirty, as_before), 0U);
    EXPECT_LT(dirty->count(), kTrackedPages);
}

TEST_P(Tracking, EndsWithoutAnybodyWaiting) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize, .split = 5 << 20});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    for (std::uint64_t page = 0; page < kTrackedPages; ++page)
        static_cast<void>(*guest.at(page));
    broker.memory().request_tracking(false);
    Broker::attend(worker);
    expect_tracking(broker, TrackState::Off);
    // Nobody is there to let a writer go on, and nobody is needed.
    worker.kill();
    for (std::uint64_t page = 0; page < kTrackedPages; ++page)
        *guest.at(page) = page;
    EXPECT_EQ(broker.counters().write_faults, 0U);
}

// Fresh memory mapped over the guest's own, as old balloons do: no event tells, so proof is asked.
TEST_P(Tracking, MemoryThatWasReplacedIsNotVouchedFor) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    for (std::uint64_t page = 0; page < kTrackedPages; ++page)
        static_cast<void>(*guest.at(page));
    ASSERT_TRUE(take_dirty(broker, worker));
    void* const fresh = ::mmap(
        guest.address(300), 2 * kPage, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0
    );
    ASSERT_NE(fresh, MAP_FAILED);
    EXPECT_FALSE(take_dirty(broker, worker));
    EXPECT_EQ(broker.state().tracking, static_cast<std::uint32_t>(TrackState::Failed));
    EXPECT_NE(broker.state().track_errno, 0U);
    // The guest runs on, and everybody may write.
    for (std::uint64_t page = 0; page < kTrackedPages; ++page)
        *guest.at(page) = page;
}

TEST_P(Tracking, GoesOnWhileAllPagesAreLoaded) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize, .split = 5 << 20});
    Broker broker(image, guest, options());
    broker.memory().request_populate(true);
    auto worker = broker.start_ready();
    Mutators mutators(guest, kTrackedPages, 4);
    EXPECT_TRUE(worker.receive(ControlType::Complete));
    mutators.stop();
    const auto dirty = take_dirty(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_EQ(lost_pages(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U);
    *guest.at(2) = 3;
    EXPECT_TRUE(take_dirty(broker, worker)->test(2));
}

class TrackingUnavailable : public Tracking {
protected:
    void SetUp() override {
        if (kernel_can_protect()) GTEST_SKIP() << "this kernel can write-protect";
    }
};
INSTANTIATE_TEST_SUITE_P(Engines, TrackingUnavailable, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(TrackingUnavailable, IsSaidAndTheGuestRunsOn) {
    const TestImage image(kTrackedSize);
    const Guest guest({.size = kTrackedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    expect_tracking(broker, TrackState::Failed);
    EXPECT_NE(broker.state().track_errno, 0U);
    *guest.at(5) = 7;
    for (std::uint64_t page = 6; page < 300; ++page)
        EXPECT_TRUE(is_of_image(guest, page));
    EXPECT_EQ(broker.state().failure.reason, 0U);
}

// Bits and protection outlive each worker, also one that dies while it arms or vouches.
TEST_P(Tracking, TrackersKilledAtRandomMoments) {
    const unsigned kills = kills_wanted(60);
    const HangGuard longer(90 + kills / 5);
    std::mt19937_64 random(5);
    std::uint64_t operations = 0;
    std::uint64_t bits = 0;
    // Anew for every ten kills: with time every page would be dirty.
    for (unsigned done = 0; done < kills;) {
        const TestImage image(kTrackedSize);
        const Guest guest({.size = kTrackedSize, .split = 5 << 20});
        Broker broker(image, guest, options());
        auto worker = broker.start();
        Mutators mutators(guest, kTrackedPages, done);
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
        const auto dirty = take_dirty(broker, worker);
        ASSERT_TRUE(dirty);
        bits += dirty->count();
        ASSERT_EQ(
            lost_pages(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U
        );
    }
    std::printf(
        "%s: %u kills, %lu operations, %lu pages dirty\n", GetParam(), kills, operations, bits
    );
}

TEST_P(Tracking, TrackersKilledWhileTheyArm) {
    const TestImage image(kTrackedSize);
    std::mt19937_64 random(6);
    for (unsigned round = 0; round < 10; ++round) {
        const Guest guest({.size = kTrackedSize});
        Broker broker(image, guest, options(false));
        auto worker = broker.start_ready();
        for (std::uint64_t page = 0; page < kTrackedPages; ++page)
            *guest.at(page) = page + 1; // all of them present and writable
        broker.memory().request_tracking(true);
        Broker::attend(worker);
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 400));
        worker.kill();
        worker = broker.start_ready();
        expect_tracking(broker, TrackState::Armed);
        for (std::uint64_t page = round; page < kTrackedPages; page += 7)
            *guest.at(page) = 0;
        const auto dirty = take_dirty(broker, worker);
        ASSERT_TRUE(dirty);
        const auto as_before = [&](std::uint64_t page) { return *guest.at(page) == page + 1; };
        EXPECT_EQ(lost_pages(guest, *dirty, as_before), 0U);
        EXPECT_EQ(dirty->count(), (kTrackedPages - round + 6) / 7);
    }
}

} // namespace
} // namespace thaw::test
