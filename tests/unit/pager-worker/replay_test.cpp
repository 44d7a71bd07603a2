// SPDX-License-Identifier: MIT
// Pages ahead of the guest: in time, never wrong, never back from the dead, and only when wanted.

#include "image/working_set.hpp"
#include "replay_fixture.hpp"
#include "temporary_directory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

namespace thaw::test {
namespace {

using protocol::ControlType;
using protocol::ReplayReason;
using protocol::ReplayState;
using std::chrono::milliseconds;

class Replay : public ReplayTest {
protected:
    static std::uint64_t wrong_pages(const Guest& guest) {
        return count_wrong_pages(guest, kReplayPages);
    }
};
INSTANTIATE_TEST_SUITE_P(Engines, Replay, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(Replay, BringsTheWorkingSetInBeforeItIsAskedFor) {
    const TestImage image(kReplaySize);
    for (const std::uint32_t unchecked : {0U, protocol::kFlagUnchecked}) {
        const Guest guest({.size = kReplaySize, .split = 5 << 20});
        const auto pages = scattered();
        Broker broker(
            image, guest, options(image.working_set(pages), protocol::kFlagPrefetch | unchecked)
        );
        auto worker = broker.start_ready();
        expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
        auto& state = broker.state();
        EXPECT_EQ(state.replay_kind, static_cast<std::uint32_t>(protocol::ReplayKind::WorkingSet));
        EXPECT_EQ(state.replay_done, pages.size() * kPage);
        EXPECT_EQ(state.replay_total, pages.size() * kPage);
        EXPECT_EQ(broker.counters().replay_pages, pages.size());
        EXPECT_GT(broker.counters().replay_done_ns, 0U);
        for (const std::uint32_t page : pages)
            ASSERT_TRUE(TestImage::matches(guest.address(page), page)) << page;
        EXPECT_EQ(broker.counters().faults, 0U); // not one of them was missing
        EXPECT_EQ(wrong_pages(guest), 0U);
        const auto& counters = broker.counters(); // the guest runs on before the worker has counted
        EXPECT_TRUE(eventually([&] {
            return counters.bytes_replay + counters.bytes_demand + counters.bytes_zero ==
                   kReplaySize;
        }));
    }
}

TEST_P(Replay, YieldsToTheGuest) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    const auto pages = scattered();
    Broker broker(image, guest, options(image.working_set(pages)));
    auto worker = broker.start();
    EXPECT_EQ(wrong_pages(guest), 0U); // at the same time
    expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
    const auto& counters = broker.counters();
    EXPECT_EQ(counters.replay_pages + counters.replay_late, pages.size());
}

// With pages freed all the while: what the guest gave back must not come back.
TEST_P(Replay, RemovedPagesAreLeftAlone) {
    const TestImage image(kReplaySize);
    const auto pages = scattered();
    for (int round = 0; round < 5; ++round) {
        const Guest guest({.size = kReplaySize});
        Broker broker(image, guest, options(image.working_set(pages)));
        auto worker = broker.start_ready();
        std::uint64_t resurrected = 0;
        for (std::size_t i = static_cast<std::size_t>(round) * 3; i < pages.size(); i += 15) {
            guest.remove(pages[i], 3);
            if (i % 2 == 0) continue; // looked at later
            for (std::uint64_t page = pages[i]; page < pages[i] + 3; ++page)
                resurrected += guest.is_zero(page) ? 0 : 1;
        }
        expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
        for (std::size_t i = static_cast<std::size_t>(round) * 3; i < pages.size(); i += 15)
            for (std::uint64_t page = pages[i]; page < pages[i] + 3; ++page)
                resurrected += guest.is_zero(page) ? 0 : 1;
        EXPECT_EQ(resurrected, 0U);
        EXPECT_EQ(broker.counters().pages_removed, (pages.size() - 3 * round + 14) / 15 * 3);
    }
}

TEST_P(Replay, ABadFileIsRefusedByNameAndTheGuestRunsOn) {
    const TestImage image(kReplaySize);
    const auto change = [&](auto edit) {
        Fd file = image.working_set(scattered());
        image::WorkingSetTable table =
            image::load_working_set(file.get(), image.id(), kReplayPages).value();
        edit(table);
        table.header.checksum = image::working_set_checksum(table);
        EXPECT_EQ(::pwrite(file.get(), &table.header, sizeof table.header, 0), 128);
        const auto runs = std::as_bytes(std::span(table.runs));
        EXPECT_GT(::pwrite(file.get(), runs.data(), runs.size(), 128), 0);
        return file;
    };
    struct Case {
        Fd file;
        ReplayReason reason;
    };
    std::vector<Case> cases;
    cases.push_back({change([](auto& t) { t.header.id[5] ^= 1; }), ReplayReason::ForeignImage});
    cases.push_back(
        {change([](auto& t) { t.header.map_checksum ^= 1; }), ReplayReason::ForeignImage}
    );
    cases.push_back(
        {change([](auto& t) { t.runs[9].first_page = kReplayPages; }), ReplayReason::OutOfRange}
    );
    cases.push_back({change([](auto& t) { t.header.version = 9; }), ReplayReason::UnknownVersion});
    cases.push_back({change([](auto& t) { t.runs[9] = t.runs[10]; }), ReplayReason::Damaged});
    cases.push_back({image.working_set({512 * 3}, kHuge), ReplayReason::ForeignImage});
    Fd cut = image.working_set(scattered());
    ASSERT_EQ(::ftruncate(cut.get(), 8192), 0);
    cases.push_back({std::move(cut), ReplayReason::Damaged});
    for (Case& bad : cases) {
        const Guest guest({.size = kReplaySize});
        Broker broker(image, guest, options(std::move(bad.file)));
        auto worker = broker.start_ready();
        expect_replay_end(worker, ReplayState::Refused, bad.reason);
        EXPECT_EQ(broker.state().replay_reason, static_cast<std::uint32_t>(bad.reason));
        EXPECT_EQ(broker.counters().replay_pages, 0U);
        EXPECT_EQ(wrong_pages(guest), 0U);
        EXPECT_EQ(broker.state().failure.reason, 0U);
    }
}

TEST_P(Replay, RottenBytesAreNotInstalled) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    Fd file = image.working_set(scattered());
    const auto table = image::load_working_set(file.get(), image.id(), kReplayPages).value();
    const auto at = static_cast<off_t>(table.header.data_offset + 70 * kPage + 11);
    std::byte byte{};
    ASSERT_EQ(::pread(file.get(), &byte, 1, at), 1);
    byte ^= std::byte{2};
    ASSERT_EQ(::pwrite(file.get(), &byte, 1, at), 1);
    Broker broker(image, guest, options(std::move(file)));
    auto worker = broker.start_ready();
    expect_replay_end(worker, ReplayState::Stopped, ReplayReason::Checksum);
    EXPECT_EQ(wrong_pages(guest), 0U);
    EXPECT_EQ(broker.state().failure.reason, 0U); // no page was lost by it
}

TEST_P(Replay, StaysWithinItsBudget) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    Broker broker(image, guest, options(image.working_set(scattered()), 0));
    broker.memory().set_prefetch({.enabled = true, .replay_budget = 1 << 20});
    auto worker = broker.start_ready();
    expect_replay_end(worker, ReplayState::Stopped, ReplayReason::Budget);
    EXPECT_LE(broker.counters().bytes_replay, 1U << 20);
    EXPECT_GT(broker.counters().bytes_replay, 1U << 19);
}

TEST_P(Replay, KeepsToItsRate) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    Broker broker(image, guest, options(image.working_set(scattered()), 0));
    broker.memory().set_prefetch({.enabled = true, .rate = 20 << 20}); // 6 MiB: 0.3 s
    const auto before = std::chrono::steady_clock::now();
    auto worker = broker.start_ready();
    expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
    EXPECT_GT(std::chrono::steady_clock::now() - before, milliseconds(220));
}

TEST_P(Replay, IsSwitchedAtRunTime) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    Broker broker(image, guest, options(image.working_set(scattered()), 0));
    auto worker = broker.start_ready();
    EXPECT_FALSE(worker.receive(ControlType::ReplayEnded, milliseconds(100)));
    EXPECT_EQ(broker.counters().replay_pages, 0U);
    broker.memory().set_prefetch({.enabled = true, .rate = 10 << 20});
    Broker::attend(worker);
    EXPECT_TRUE(eventually([&] { return broker.counters().replay_pages > 100; }));
    broker.memory().set_prefetch({.enabled = false});
    Broker::attend(worker);
    const auto serial = broker.memory().control().serial.load();
    EXPECT_TRUE(eventually([&] { return broker.state().control_serial == serial; }));
    EXPECT_TRUE(eventually([&] {
        return broker.state().replay_state == static_cast<std::uint32_t>(ReplayState::Paused);
    }));
    const auto pages = broker.counters().replay_pages.load();
    std::this_thread::sleep_for(milliseconds(100));
    EXPECT_EQ(broker.counters().replay_pages, pages);
    EXPECT_LT(pages, scattered().size());
    broker.memory().set_prefetch({.enabled = true});
    Broker::attend(worker);
    expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
}

TEST_P(Replay, PausesUnderPressure) {
    const TemporaryDirectory folder;
    const auto say = [&](const char* avg10) {
        folder.write(
            "memory", std::string("some avg10=") + avg10 + " avg60=0.00 avg300=0.00 total=1\n"
        );
    };
    say("31.42");
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    auto with = options(image.working_set(scattered()), 0);
    with.pressure_directory = folder.path();
    Broker broker(image, guest, std::move(with));
    broker.memory().set_prefetch({.enabled = true, .memory_pressure = 2000});
    auto worker = broker.start_ready();
    EXPECT_TRUE(eventually([&] {
        return broker.state().replay_reason == static_cast<std::uint32_t>(ReplayReason::Pressure);
    }));
    EXPECT_EQ(broker.counters().replay_pages, 0U);
    EXPECT_TRUE(TestImage::matches(guest.address(5), 5)); // the guest is served all the same
    say("12.00");
    expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
}

TEST_P(Replay, AWorkerThatTakesOverGoesOn) {
    const TestImage image(kReplaySize);
    const Guest guest({.size = kReplaySize});
    const auto pages = scattered();
    Broker broker(image, guest, options(image.working_set(pages), 0));
    broker.memory().set_prefetch({.enabled = true, .rate = 10 << 20});
    auto worker = broker.start_ready();
    EXPECT_TRUE(eventually([&] { return broker.counters().replay_pages > 200; }));
    worker.kill();
    const auto before = broker.counters().replay_pages.load();
    broker.memory().set_prefetch({.enabled = true});
    worker = broker.start_ready();
    expect_replay_end(worker, ReplayState::Done, ReplayReason::None);
    // The run in flight may go uncounted; those of this working set have up to three pages.
    EXPECT_GE(broker.counters().replay_pages, pages.size() - 3);
    EXPECT_LE(broker.counters().replay_pages, pages.size());
    EXPECT_LT(before, pages.size());
    worker.kill();
    worker = broker.start_ready(); // the third has nothing to do
    EXPECT_FALSE(worker.receive(ControlType::ReplayEnded, milliseconds(50)));
    EXPECT_EQ(wrong_pages(guest), 0U);
}

} // namespace
} // namespace thaw::test
