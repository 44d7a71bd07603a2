// SPDX-License-Identifier: MIT
// What else is done ahead of the guest or beside it: recording, Complete, Quiesce.

#include "replay_fixture.hpp"

#include <thread>

namespace thaw::test {
namespace {

using protocol::ControlType;
using protocol::ReplayReason;
using protocol::ReplayState;
using std::chrono::milliseconds;

class Ahead : public ReplayTest {};
INSTANTIATE_TEST_SUITE_P(Engines, Ahead, ::testing::Values(THAW_TEST_ENGINES));

// ---- recording -------------------------------------------------------------------------------

TEST_P(Ahead, ARecordingNotesEachFirstTouchInOrder) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize, .split = 3 << 20});
    Broker broker(image, guest, options(Fd(), protocol::kFlagRecording));
    auto worker = broker.start_ready();
    std::vector<std::uint32_t> touched;
    for (const std::uint32_t page : {900U, 17U, 18U, 4000U, 3U, 900U, 17U}) { // 17, 18: zero
        static_cast<void>(*guest.at(page));
        if (std::ranges::find(touched, page) == touched.end()) touched.push_back(page);
    }
    guest.remove(3, 1);
    guest.remove(700, 1);
    static_cast<void>(*guest.at(3));
    static_cast<void>(*guest.at(700)); // freed before it was touched: nothing to bring back
    static_cast<void>(*guest.at(5));
    touched.push_back(5);
    EXPECT_TRUE(eventually([&] { return broker.state().touches == touched.size(); }));
    EXPECT_EQ(broker.memory().touches(), touched);
    worker.kill();
    worker = broker.start_ready();
    static_cast<void>(*guest.at(6));
    touched.push_back(6);
    EXPECT_TRUE(eventually([&] { return broker.memory().touches() == touched; }));
}

// ---- Complete and Quiesce --------------------------------------------------------------------

TEST_P(Ahead, CompleteBringsEveryPageIn) {
    const TestImage image(kReplaySize);
    for (const std::uint32_t unchecked : {0U, protocol::kFlagUnchecked}) {
        const Guest guest({.size = kReplaySize, .split = 5 << 20});
        Broker broker(image, guest, options(Fd(), unchecked));
        auto worker = broker.start_ready();
        guest.remove(40, 10);
        EXPECT_TRUE(TestImage::matches(guest.address(100), 100));
        for (const auto& region : guest.regions())
            EXPECT_FALSE(broker.memory().is_covered(region));
        broker.memory().request_populate(true);
        Broker::attend(worker);
        const auto message = worker.receive(ControlType::Complete);
        ASSERT_TRUE(message) << message.error().message() << ", populate state "
                             << broker.state().populate_state << ", done "
                             << broker.state().populate_done;
        for (const auto& region : guest.regions())
            EXPECT_TRUE(broker.memory().is_covered(region));
        EXPECT_EQ(broker.state().populate_done, kReplaySize);
        EXPECT_GT(broker.counters().last_page_ns, 0U);
        const auto faults = broker.counters().faults.load();
        std::uint64_t wrong = 0;
        for (std::uint64_t page = 0; page < kReplayPages; ++page) {
            if (page >= 40 && page < 50) continue;
            wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
        }
        EXPECT_EQ(wrong, 0U);
        EXPECT_EQ(broker.counters().faults, faults);
        // Now it may be unregistered: what is missing was given back and reads as zeros.
        guest.unregister();
        for (std::uint64_t page = 40; page < 50; ++page)
            EXPECT_TRUE(guest.is_zero(page));
        ASSERT_TRUE(protocol::send_control(worker.channel(), protocol::encode(ControlType::Quit)));
        EXPECT_EQ(worker.wait(), 0);
    }
}

TEST_P(Ahead, CompleteWithPagesFreedAllTheWhile) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    Broker broker(image, guest, options(image.working_set(scattered())));
    broker.memory().request_populate(true);
    auto worker = broker.start_ready();
    std::vector<bool> removed(kReplayPages);
    for (std::uint64_t page = 1; page + 2 < kReplayPages; page += 37) {
        guest.remove(page, 2);
        removed[page] = removed[page + 1] = true;
    }
    ASSERT_TRUE(worker.receive(ControlType::Complete));
    EXPECT_TRUE(broker.memory().is_covered(guest.regions().front()));
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < kReplayPages; ++page)
        wrong +=
            (removed[page] ? guest.is_zero(page) : TestImage::matches(guest.address(page), page))
                ? 0
                : 1;
    EXPECT_EQ(wrong, 0U);
}

TEST_P(Ahead, CompleteFailsByNameWhenAPageCannotBeRead) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    image.flip(2000);
    Broker broker(image, guest, options(Fd(), 0));
    broker.memory().request_populate(true);
    auto worker = broker.start_ready();
    EXPECT_TRUE(eventually([&] {
        return broker.state().populate_state ==
               static_cast<std::uint32_t>(protocol::PopulateState::Failed);
    }));
    EXPECT_FALSE(broker.memory().is_covered(guest.regions().front()));
    EXPECT_EQ(broker.state().failure.reason, 0U); // nobody has asked for it
    EXPECT_TRUE(TestImage::matches(guest.address(1), 1));
    EXPECT_TRUE(broker.memory().is_present(3000));
    EXPECT_FALSE(broker.memory().is_present(2000));
}

TEST_P(Ahead, QuiesceIsABarrier) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    Broker broker(image, guest, options(image.working_set(scattered()), 0));
    broker.memory().set_prefetch({.enabled = true, .rate = 10 << 20});
    auto worker = broker.start_ready();
    EXPECT_TRUE(eventually([&] { return broker.counters().replay_pages > 100; }));
    broker.memory().request_quiesce(true);
    Broker::attend(worker);
    auto answer = worker.receive(ControlType::Attended);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->attended.quiesced);
    EXPECT_EQ(answer->attended.serial, broker.memory().control().serial);
    EXPECT_EQ(broker.state().quiesced, 1U);
    const auto installed = broker.counters().pages_copied.load();
    std::this_thread::sleep_for(milliseconds(100));
    EXPECT_EQ(broker.counters().pages_copied, installed);
    EXPECT_EQ(broker.counters().parked, 0U);
    // A successor keeps to it, and a fault that comes is served.
    worker.kill();
    worker = broker.start_ready();
    answer = worker.receive(ControlType::Attended);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->attended.quiesced);
    EXPECT_TRUE(TestImage::matches(guest.address(6), 6)); // not in the working set
    EXPECT_TRUE(eventually([&] { return broker.counters().pages_copied == installed + 1; }));
    broker.memory().request_quiesce(false);
    broker.memory().set_prefetch({.enabled = true});
    Broker::attend(worker);
    answer = worker.receive(ControlType::Attended);
    ASSERT_TRUE(answer);
    EXPECT_FALSE(answer->attended.quiesced);
    expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
    EXPECT_EQ(broker.state().quiesced, 0U);
}

} // namespace
} // namespace thaw::test
