// SPDX-License-Identifier: MIT
// Recording, replay and Complete with 2 MiB pages.

#include "core/file.hpp"
#include "huge_fixture.hpp"
#include "replay_fixture.hpp"

#include <atomic>
#include <thread>

namespace thaw::test {
namespace {

using protocol::ControlType;
using protocol::ReplayReason;
using protocol::ReplayState;
using std::chrono::milliseconds;

class HugeReplay : public HugeTest {
protected:
    // The first 4 KiB page of each.
    static std::vector<std::uint32_t> pages_of(const std::vector<std::uint32_t>& huge) {
        std::vector<std::uint32_t> pages;
        for (const std::uint32_t index : huge)
            pages.push_back(static_cast<std::uint32_t>(index * kPerHuge));
        return pages;
    }
    static std::vector<std::uint32_t> all_pages() {
        std::vector<std::uint32_t> huge(kHugePages);
        std::iota(huge.begin(), huge.end(), 0);
        std::shuffle(huge.begin(), huge.end(), std::mt19937_64(2));
        return pages_of(huge);
    }
};
INSTANTIATE_TEST_SUITE_P(Engines, HugeReplay, ::testing::Values(THAW_TEST_ENGINES));

// What one guest touched is brought in for the next one.
TEST_P(HugeReplay, WhatWasRecordedIsReplayed) {
    const TestImage image(kSize);
    const std::vector<std::uint32_t> touched{9, 3, 15, 4, 0};
    std::vector<std::uint32_t> log;
    {
        const Guest guest(kLayout);
        Broker broker(image, guest, replay_options(GetParam(), Fd(), protocol::kFlagRecording));
        auto worker = broker.start_ready();
        for (const std::uint32_t huge : touched) {
            static_cast<void>(*guest.at(huge * kPerHuge + 300)); // anywhere in it
            static_cast<void>(*guest.at(huge * kPerHuge));
        }
        guest.remove(12 * kPerHuge, kPerHuge);
        static_cast<void>(*guest.at(12 * kPerHuge)); // given back before: nothing to bring in
        EXPECT_TRUE(eventually([&] { return broker.state().touches == touched.size(); }));
        log = broker.memory().touches();
    }
    EXPECT_EQ(log, pages_of(touched));
    for (const std::uint32_t unchecked : {0U, protocol::kFlagUnchecked}) {
        const Guest guest(kLayout);
        const auto flags = protocol::kFlagPrefetch | unchecked;
        Broker broker(
            image, guest, replay_options(GetParam(), image.working_set(log, kHuge), flags)
        );
        auto worker = broker.start_ready();
        expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
        EXPECT_EQ(broker.state().replay_done, touched.size() * kHuge);
        EXPECT_EQ(broker.counters().bytes_replay, touched.size() * kHuge);
        for (const std::uint32_t huge : touched)
            EXPECT_EQ(wrong_in(guest, huge), 0U) << huge;
        EXPECT_EQ(broker.counters().faults, 0U); // not one of them was missing
        EXPECT_EQ(count_wrong_pages(guest, image.pages()), 0U);
        EXPECT_EQ(broker.counters().faults, kHugePages - touched.size());
    }
}

TEST_P(HugeReplay, RemovedPagesAreLeftAlone) {
    const TestImage image(kSize);
    for (std::uint64_t round = 0; round < 8; ++round) {
        const Guest guest(kLayout);
        Broker broker(
            image, guest, replay_options(GetParam(), image.working_set(all_pages(), kHuge))
        );
        auto worker = broker.start();
        const std::uint64_t first = round * 2;
        std::this_thread::sleep_for(std::chrono::microseconds(round * 700));
        guest.remove(first * kPerHuge, 2 * kPerHuge);
        expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
        std::uint64_t wrong = 0;
        for (std::uint64_t page = 0; page < image.pages(); ++page) {
            const bool removed = page / kPerHuge / 2 == round;
            wrong += (removed ? guest.is_zero(page) : TestImage::matches(guest.address(page), page))
                         ? 0
                         : 1;
        }
        EXPECT_EQ(wrong, 0U);
        EXPECT_EQ(broker.counters().pages_removed, 2 * kPerHuge);
    }
}

// Without a working set: in file order, within a budget that whole pages must fit.
TEST_P(HugeReplay, AStretchInFileOrder) {
    const TestImage image(kSize, "/var/tmp");
    for (const std::uint64_t odd : {std::uint64_t{0}, kHuge / 2}) {
        image.cool();
        const Guest guest(kLayout);
        Broker broker(image, guest, replay_options(GetParam(), Fd()));
        broker.memory().set_prefetch({.enabled = true, .sequential_budget = 6 * kHuge + odd});
        auto worker = broker.start_ready();
        expect_replay_end(worker, ReplayState::Stopped, ReplayReason::Budget);
        EXPECT_EQ(broker.counters().bytes_replay, 6 * kHuge);
        for (std::uint64_t huge = 0; huge < kHugePages; ++huge)
            EXPECT_EQ(broker.memory().is_present(huge * kPerHuge), huge < 6) << huge;
        EXPECT_EQ(count_wrong_pages(guest, image.pages()), 0U);
        EXPECT_EQ(broker.counters().faults, kHugePages - 6);
    }
}

TEST_P(HugeReplay, RottenBytesAreNotInstalled) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    const Fd file = image.working_set(all_pages(), kHuge);
    const auto size = identify(file.get()).value().size;
    std::byte byte{};
    const auto at = static_cast<off_t>(size - 6 * kHuge + 12345);
    ASSERT_EQ(::pread(file.get(), &byte, 1, at), 1);
    byte ^= std::byte{2};
    ASSERT_EQ(::pwrite(file.get(), &byte, 1, at), 1);
    Broker broker(image, guest, replay_options(GetParam(), Fd(::dup(file.get()))));
    auto worker = broker.start_ready();
    expect_replay_end(worker, ReplayState::Stopped, ReplayReason::Checksum);
    EXPECT_EQ(count_wrong_pages(guest, image.pages()), 0U);
    EXPECT_EQ(broker.state().failure.reason, 0U);
}

TEST_P(HugeReplay, CompleteBringsEveryPageIn) {
    const TestImage image(kSize);
    for (const std::uint32_t unchecked : {0U, protocol::kFlagUnchecked}) {
        const Guest guest(kLayout);
        Broker broker(image, guest, replay_options(GetParam(), Fd(), unchecked));
        auto worker = broker.start_ready();
        guest.remove(5 * kPerHuge, kPerHuge);
        EXPECT_EQ(wrong_in(guest, 7), 0U);
        broker.memory().request_populate(true);
        Broker::attend(worker);
        ASSERT_TRUE(worker.receive(ControlType::Complete));
        EXPECT_TRUE(broker.memory().is_covered(guest.regions().front()));
        worker.kill();
        guest.unregister(); // whatever is missing now reads as zeros
        for (std::uint64_t huge = 0; huge < kHugePages; ++huge)
            if (huge != 5) {
                EXPECT_EQ(wrong_in(guest, huge), 0U) << huge;
            }
        EXPECT_TRUE(guest.is_zero(5 * kPerHuge + 9));
    }
}

// Most workers die inside the ioctl that puts a page in: it is there, and nobody has noted it. Each
// successor must get to the end of the replay and of Complete all the same.
TEST_P(HugeReplay, WorkersKilledWhileTheyReplay) {
    const TestImage image(kSize);
    std::mt19937_64 random(8);
    unsigned kills = 0;
    for (unsigned round = 0; round < 12; ++round) {
        const Guest guest(kLayout);
        Broker broker(
            image, guest, replay_options(GetParam(), image.working_set(all_pages(), kHuge))
        );
        broker.memory().request_populate(true);
        auto worker = broker.start_ready();
        for (unsigned kill = 0; kill < 4; ++kill, ++kills) {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 2500));
            worker.kill();
            worker = broker.start_ready();
        }
        const auto message = worker.receive(ControlType::Complete);
        ASSERT_TRUE(message) << "after " << kills << " kills, " << broker.state().populate_done
                             << " bytes done";
        EXPECT_TRUE(broker.memory().is_covered(guest.regions().front()));
        worker.kill();
        guest.unregister();
        ASSERT_EQ(count_wrong_pages(guest, image.pages()), 0U);
    }
}

// A page that the pool lacks is not taken for one that is there, whoever tried it last.
TEST_P(HugeReplay, AnEmptyPoolIsWaitedFor) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, replay_options(GetParam(), Fd(), 0));
    auto worker = broker.start_ready();
    EXPECT_EQ(wrong_in(guest, 3), 0U);
    const long count = fakes::HugePages::size();
    fakes::HugePages::resize(count - static_cast<long>(kHugePages - 1)); // the one in use stays
    broker.memory().request_populate(true);
    Broker::attend(worker);
    for (int kill = 0; kill < 5; ++kill) {
        std::this_thread::sleep_for(milliseconds(30));
        worker.kill();
        worker = broker.start_ready();
    }
    EXPECT_FALSE(worker.receive(ControlType::Complete, milliseconds(200)));
    for (std::uint64_t huge = 0; huge < kHugePages; ++huge)
        EXPECT_EQ(broker.memory().is_present(huge * kPerHuge), huge == 3) << huge;
    fakes::HugePages::resize(count);
    ASSERT_TRUE(worker.receive(ControlType::Complete));
    worker.kill();
    guest.unregister();
    EXPECT_EQ(count_wrong_pages(guest, image.pages()), 0U);
}

} // namespace
} // namespace thaw::test
