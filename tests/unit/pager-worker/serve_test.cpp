// SPDX-License-Identifier: MIT
// A worker serves a guest: what it installs is what the image has, or zeros where that is due.

#include "core/file.hpp"
#include "harness.hpp"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <future>
#include <random>
#include <thread>

namespace thaw::test {
namespace {

constexpr std::uint64_t kServedSize = 16 << 20;

class Serve : public ::testing::TestWithParam<const char*> {
protected:
    BrokerOptions options() const {
        BrokerOptions options;
        options.engine = GetParam();
        return options;
    }
    HangGuard guard_{60};
};
INSTANTIATE_TEST_SUITE_P(Engines, Serve, ::testing::Values(THAW_TEST_ENGINES));

std::uint64_t expect_all(const Guest& guest, std::uint64_t pages) {
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < pages; ++page)
        if (!TestImage::matches(guest.address(page), page)) ++wrong;
    return wrong;
}

TEST_P(Serve, EveryByteIsTheImages) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    EXPECT_EQ(expect_all(guest, image.pages()), 0U);
    const auto& counters = broker.counters();
    // Zero pages of the image come eight at a time: the run around a fault is filled at once.
    const std::uint64_t faults = image.pages() / 64 * 57;
    EXPECT_EQ(counters.faults, faults);
    // The guest runs on before the worker has counted.
    EXPECT_TRUE(eventually([&] {
        return counters.pages_copied + counters.pages_zero == image.pages() &&
               broker.state().oldest_fault_ns == 0;
    }));
    EXPECT_EQ(counters.pages_zero, image.pages() / 8);
    EXPECT_EQ(counters.pages_checked, counters.pages_copied);
    std::uint64_t histogram = 0;
    for (const auto& bucket : counters.latency)
        histogram += bucket;
    EXPECT_EQ(histogram, faults);
}

TEST_P(Serve, TwoRegionsInRandomOrder) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize, .split = 5 << 20});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    std::mt19937_64 random(7);
    for (int i = 0; i < 2000; ++i) {
        const std::uint64_t page = random() % image.pages();
        ASSERT_TRUE(TestImage::matches(guest.address(page), page)) << page;
    }
    EXPECT_EQ(expect_all(guest, image.pages()), 0U);
}

TEST_P(Serve, UncheckedFromTheMapping) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    auto with = options();
    with.flags = protocol::kFlagUnchecked;
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    EXPECT_EQ(expect_all(guest, image.pages()), 0U);
    EXPECT_EQ(broker.counters().pages_checked, 0U);
    EXPECT_EQ(broker.counters().pages_zero, image.pages() / 8);
}

// Bytes that a disk must be waited for are read beside everything else.
TEST_P(Serve, FromAColdDisk) {
    const TestImage image(64 << 20, "/var/tmp");
    for (const std::uint32_t flags : {0U, protocol::kFlagUnchecked}) {
        image.cool();
        const Guest guest({.size = 64 << 20});
        auto with = options();
        with.flags = flags;
        Broker broker(image, guest, std::move(with));
        auto worker = broker.start_ready();
        std::atomic<std::uint64_t> wrong = 0;
        std::vector<std::thread> threads;
        for (unsigned t = 0; t < 6; ++t)
            threads.emplace_back([&, t] {
                std::mt19937_64 random(t);
                for (int i = 0; i < 700; ++i) {
                    const std::uint64_t page = random() % image.pages();
                    wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
                }
            });
        for (auto& thread : threads)
            thread.join();
        EXPECT_EQ(wrong, 0U);
        EXPECT_EQ(broker.state().failure.reason, 0U);
        EXPECT_TRUE(eventually([&] {
            return broker.state().oldest_fault_ns == 0 && broker.state().source_slow == 0;
        }));
        EXPECT_GT(broker.counters().bytes_read, 0U);
    }
}

// After many looks that found each page the page cache is believed to have the file. When it has
// not, that is noticed.
TEST_P(Serve, TheBeliefInThePageCacheEndsWithASurprise) {
    const TestImage image(64 << 20, "/var/tmp"); // just written
    const Guest guest({.size = 64 << 20});
    auto with = options();
    with.flags = protocol::kFlagUnchecked;
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    EXPECT_EQ(expect_all(guest, 200), 0U);
    EXPECT_EQ(broker.counters().bytes_read, 0U); // straight from the mapping
    image.cool();
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 1024; page < image.pages(); page += 256) // beyond any read-ahead
        wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
    EXPECT_EQ(wrong, 0U);
    EXPECT_TRUE(eventually([&] { return broker.counters().bytes_read > 0; })); // looked, and read
}

TEST_P(Serve, ColdFileThatEndsTooEarlyOrIsRotten) {
    const TestImage image(16 << 20, "/var/tmp");
    image.flip(100);
    image.truncate((16 << 20) - 2 * kPage);
    image.cool();
    const Guest guest({.size = 16 << 20});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    std::vector<std::thread> touchers;
    for (const std::uint64_t page : {std::uint64_t{100}, image.pages() - 1}) {
        std::thread toucher([&guest, page] {
            EXPECT_TRUE(TestImage::matches(guest.address(page), page));
        });
        const auto message = worker.receive(protocol::ControlType::Failed);
        ASSERT_TRUE(message) << message.error().message();
        EXPECT_EQ(message->failed.page_offset, page * kPage);
        EXPECT_EQ(
            message->failed.reason, page == 100 ? protocol::FailureReason::Checksum
                                                : protocol::FailureReason::SourceTruncated
        );
        EXPECT_TRUE(TestImage::matches(guest.address(page - 3), page - 3));
        touchers.push_back(std::move(toucher)); // released below, when the file is put right
    }
    EXPECT_EQ(broker.state().stop_pending, 1U);
    worker.kill();
    image.flip(100);
    image.restore_end();
    worker = broker.start_ready();
    EXPECT_TRUE(TestImage::matches(guest.address(100), 100));
    for (auto& toucher : touchers)
        toucher.join();
}

TEST_P(Serve, WithoutAMap) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    auto with = options();
    with.with_map = false;
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    EXPECT_EQ(expect_all(guest, image.pages()), 0U);
    EXPECT_TRUE(eventually([&] { return broker.counters().pages_copied == image.pages(); }));
}

TEST_P(Serve, ManyThreadsOnTheSamePages) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    std::atomic<std::uint64_t> wrong = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&] { wrong += expect_all(guest, image.pages()); });
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(wrong, 0U);
}

TEST_P(Serve, RemovedPagesComeBackAsZeros) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    EXPECT_TRUE(TestImage::matches(guest.address(3), 3));
    guest.remove(2, 4); // 3 is present, the others never were
    for (std::uint64_t page = 2; page < 6; ++page)
        EXPECT_TRUE(guest.is_zero(page)) << page;
    EXPECT_TRUE(TestImage::matches(guest.address(1), 1));
    EXPECT_TRUE(TestImage::matches(guest.address(6), 6));
    *guest.at(4) = 42; // the guest uses it again: it is its own
    EXPECT_EQ(*guest.at(4), 42U);
    guest.remove(4, 1);
    EXPECT_EQ(*guest.at(4), 0U);
    for (std::uint64_t page = 2; page < 6; ++page)
        EXPECT_TRUE(broker.memory().is_removed(page)) << page;
    EXPECT_FALSE(broker.memory().is_removed(1) || broker.memory().is_removed(6));
    EXPECT_EQ(broker.counters().pages_removed, 4U);
}

// What came to be there between the fault and its answer: nobody else wakes the one who waits.
// The kernel limits how many mappings a VMM may have, and scattered give-backs must not add to
// them.
TEST_P(Serve, RemovedPagesCostNoMappings) {
    const auto mappings = [] {
        const auto text = read_file("/proc/self/maps").value();
        return std::ranges::count(text, '\n');
    };
    const TestImage image(16 << 20);
    const Guest guest({.size = 16 << 20});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    const auto before = mappings();
    for (std::uint64_t page = 0; page < image.pages(); page += 2)
        guest.remove(page, 1);
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < image.pages(); ++page) {
        const bool right =
            page % 2 == 0 ? guest.is_zero(page) : TestImage::matches(guest.address(page), page);
        wrong += right ? 0 : 1;
    }
    EXPECT_EQ(wrong, 0U);
    EXPECT_LE(mappings(), before + 2); // the allocator's own
}

TEST_P(Serve, AFaultWhosePageIsThereByNowIsWoken) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    worker.signal(SIGSTOP);
    const std::uint64_t page = 77;
    std::thread toucher([&] { EXPECT_TRUE(TestImage::matches(guest.address(page), page)); });
    pollfd unread{.fd = guest.uffd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&unread, 1, 5000), 1);
    std::array<std::uint64_t, kPage / 8> words;
    for (std::size_t i = 0; i < words.size(); ++i)
        words[i] = TestImage::word(page, i);
    uffdio_copy copy{};
    copy.dst = reinterpret_cast<std::uintptr_t>(guest.address(page));
    copy.src = reinterpret_cast<std::uintptr_t>(words.data());
    copy.len = kPage;
    copy.mode = UFFDIO_COPY_MODE_DONTWAKE;
    ASSERT_EQ(::ioctl(guest.uffd(), UFFDIO_COPY, &copy), 0);
    worker.signal(SIGCONT);
    toucher.join();
    EXPECT_TRUE(eventually([&] { return broker.counters().exists == 1; }));
    EXPECT_TRUE(broker.memory().is_present(page));
}

// What a session has read and checked counts over all its workers.
TEST_P(Serve, CountersOfTheSourceOutliveTheWorker) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    const auto& counters = broker.counters();
    std::uint64_t pages = 0;
    for (int generation = 0; generation < 3; ++generation) {
        auto worker = broker.start_ready();
        for (std::uint64_t i = 0; i < 10; ++i, ++pages) // none of them zero
            EXPECT_TRUE(TestImage::matches(guest.address(pages * 64), pages * 64));
        EXPECT_TRUE(eventually([&] { return counters.pages_copied == pages; }));
        EXPECT_EQ(counters.bytes_read, pages * kPage);
        EXPECT_EQ(counters.pages_checked, pages);
    }
}

TEST_P(Serve, RemoveAgainstTouch) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    std::atomic<bool> stop = false;
    std::vector<std::thread> touchers;
    for (unsigned t = 0; t < 3; ++t)
        touchers.emplace_back([&, t] {
            std::mt19937_64 random(t);
            while (!stop)
                static_cast<void>(*guest.at(random() % image.pages()));
        });
    std::uint64_t resurrected = 0;
    for (std::uint64_t page = 0; page + 8 <= image.pages(); page += 8) {
        guest.remove(page, 8);
        for (std::uint64_t i = page; i < page + 8; ++i)
            resurrected += guest.is_zero(i) ? 0 : 1;
    }
    stop = true;
    for (auto& thread : touchers)
        thread.join();
    EXPECT_EQ(resurrected, 0U);
    EXPECT_EQ(broker.counters().pages_removed, image.pages());
}

// A removal that was read but whose caller has not run on makes every fill fail with EAGAIN, and no
// event says when that is over.
TEST_P(Serve, FaultsThatMeetARemovalAreParked) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    // Until both have met, which on one slow CPU takes more time.
    constexpr std::uint64_t kRounds = 300;
    constexpr std::uint64_t kMostRounds = 1000;
    const auto goes_on = [&](std::uint64_t round) {
        return round < kRounds || (round < kMostRounds && broker.counters().again == 0);
    };
    for (std::uint64_t round = 0; goes_on(round); ++round) {
        worker.signal(SIGSTOP);
        const std::uint64_t page = 2 * round;
        std::thread remover([&] { guest.remove(page, 1); });
        std::thread toucher([&] {
            EXPECT_TRUE(TestImage::matches(guest.address(page + 1), page + 1));
        });
        std::this_thread::sleep_for(std::chrono::microseconds(round < kRounds ? 300 : 5000));
        worker.signal(SIGCONT);
        remover.join();
        toucher.join();
        EXPECT_TRUE(guest.is_zero(page));
    }
    EXPECT_GT(broker.counters().again, 0U);
    EXPECT_TRUE(eventually([&] { return broker.counters().parked == 0; }));
    EXPECT_TRUE(eventually([&] { return broker.state().oldest_fault_ns == 0; }));
}

TEST_P(Serve, EndsWithTheVmmAndIgnoresSigterm) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    const pid_t vmm = ::fork();
    if (vmm == 0) {
        ::pause();
        ::_exit(0);
    }
    auto with = options();
    with.vmm_pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, vmm, 0)));
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    worker.signal(SIGTERM);
    EXPECT_TRUE(TestImage::matches(guest.address(5), 5));
    // Quit from a broker that is wrong about the VMM is refused too.
    ASSERT_TRUE(
        protocol::send_control(worker.channel(), protocol::encode(protocol::ControlType::Quit))
    );
    EXPECT_EQ(worker.wait(std::chrono::milliseconds(100)), std::nullopt);
    EXPECT_TRUE(TestImage::matches(guest.address(6), 6));
    ::kill(vmm, SIGKILL);
    EXPECT_EQ(worker.wait(), 0);
    const auto message = worker.receive();
    ASSERT_TRUE(message);
    EXPECT_EQ(message->type, protocol::ControlType::VmmExited);
    ::waitpid(vmm, nullptr, 0);
}

TEST_P(Serve, RoundTripAndStartCost) {
    const TestImage image(kServedSize);
    const Guest guest({.size = kServedSize});
    Broker broker(image, guest, options());
    std::vector<std::int64_t> starts;
    for (int i = 0; i < 20; ++i) {
        const auto before = std::chrono::steady_clock::now();
        auto worker = broker.start_ready();
        starts.push_back(
            (std::chrono::steady_clock::now() - before) / std::chrono::microseconds(1)
        );
    }
    auto worker = broker.start_ready();
    std::vector<std::int64_t> trips;
    for (std::uint64_t page = 0; page < image.pages(); page += 2) {
        const auto before = std::chrono::steady_clock::now();
        static_cast<void>(*guest.at(page));
        trips.push_back((std::chrono::steady_clock::now() - before) / std::chrono::nanoseconds(1));
    }
    std::sort(starts.begin(), starts.end());
    std::sort(trips.begin(), trips.end());
    RecordProperty("start_to_ready_us_p50", static_cast<int>(starts[starts.size() / 2]));
    RecordProperty("fault_ns_p50", static_cast<int>(trips[trips.size() / 2]));
    std::printf(
        "%s: start to ready p50 %ld us, fault p50 %ld ns, p99 %ld ns\n", GetParam(),
        starts[starts.size() / 2], trips[trips.size() / 2], trips[trips.size() * 99 / 100]
    );
    EXPECT_LT(starts[starts.size() / 2], 200'000);
}

} // namespace
} // namespace thaw::test
