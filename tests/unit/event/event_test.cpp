// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "event/event.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <stdexcept>

namespace thaw {
namespace {

constexpr Microseconds kShort = 20 * kUsecPerMsec;
constexpr Microseconds kLong = 10 * kUsecPerSec;

class EventTest : public testing::Test {
protected:
    // Iterations until `done`, or a failure after ten seconds.
    void run_until(const std::function<bool()>& done) {
        const auto deadline = now_monotonic() + kLong;
        while (!done() && now_monotonic() < deadline)
            ASSERT_TRUE(loop_.run_once(100 * kUsecPerMsec));
        EXPECT_TRUE(done());
    }
    void settle() {
        const auto deadline = now_monotonic() + kShort;
        while (now_monotonic() < deadline)
            ASSERT_TRUE(loop_.run_once(kUsecPerMsec));
    }

    EventLoop loop_ = EventLoop::create().value();
};

TEST_F(EventTest, IoEventsAndTheirChange) {
    const auto [a, b] = make_seqpacket_pair(true).value();
    std::uint32_t seen = 0;
    auto source =
        loop_.add_io(
                 b.get(), EPOLLIN, [&](std::uint32_t events) { seen |= events; }, "io", 0
        )
            .value();
    settle();
    EXPECT_EQ(seen, 0U);
    ASSERT_TRUE(write_all(a.get(), "x"));
    run_until([&] { return (seen & EPOLLIN) != 0; });
    ASSERT_TRUE(source.set_io_events(EPOLLOUT));
    seen = 0;
    run_until([&] { return (seen & EPOLLOUT) != 0; });
    EXPECT_FALSE(seen & EPOLLIN);
    source.enable(false);
    seen = 0;
    settle();
    EXPECT_EQ(seen, 0U);
    source.enable(true);
    run_until([&] { return seen != 0; });
}

TEST_F(EventTest, RefusesWhatEpollRefuses) {
    const auto bad = loop_.add_io(-1, EPOLLIN, [](std::uint32_t) {}, "nothing", 0);
    EXPECT_FALSE(bad);
    // A regular file is always ready: epoll does not take it.
    const Fd file = open_file("/etc/passwd", O_RDONLY).value();
    const auto regular = loop_.add_io(file.get(), EPOLLIN, [](std::uint32_t) {}, "a file", 0);
    ASSERT_FALSE(regular);
    EXPECT_EQ(regular.error().code(), EPERM);
    EXPECT_EQ(regular.error().message(), "watch a file: Operation not permitted");
}

TEST_F(EventTest, TimerFiresOnceAndAgainAfterRearm) {
    int fired = 0;
    const auto start = now_monotonic();
    auto timer = loop_.add_timer(kShort, [&] { ++fired; }, "timer", 0).value();
    run_until([&] { return fired == 1; });
    EXPECT_GE(now_monotonic() - start, kShort);
    std::uint64_t accuracy = 0;
    ASSERT_GE(sd_event_source_get_time_accuracy(timer.get(), &accuracy), 0);
    EXPECT_LE(accuracy, kUsecPerMsec); // sd-event's default would be 250 ms
    settle();
    EXPECT_EQ(fired, 1);
    ASSERT_TRUE(timer.rearm(0));
    run_until([&] { return fired == 2; });
}

TEST_F(EventTest, InfiniteTimerWaitsForRearm) {
    int fired = 0;
    auto timer = loop_.add_timer(kInfinity, [&] { ++fired; }, "never", 0).value();
    settle();
    EXPECT_EQ(fired, 0);
    ASSERT_TRUE(timer.rearm(kInfinity - 1));
    ASSERT_TRUE(timer.rearm(1));
    run_until([&] { return fired == 1; });
    ASSERT_TRUE(timer.rearm(kInfinity));
    settle();
    EXPECT_EQ(fired, 1);
}

TEST_F(EventTest, DeferRunsOnceInOrderOfPriority) {
    std::string order;
    const auto late = loop_.add_defer([&] { order += "c"; }, "late", 100).value();
    const auto early = loop_.add_defer([&] { order += "a"; }, "early", -100).value();
    const auto middle = loop_.add_defer([&] { order += "b"; }, "middle", 0).value();
    settle();
    EXPECT_EQ(order, "abc");
}

TEST_F(EventTest, SignalIsBlockedAndDelivered) {
    int seen = 0;
    {
        const auto source = loop_.add_signal(SIGUSR1, [&] { ++seen; }, "signal", 0).value();
        ASSERT_EQ(kill(getpid(), SIGUSR1), 0); // would end this process if it was not blocked
        run_until([&] { return seen == 1; });
    }
    ASSERT_EQ(kill(getpid(), SIGUSR1), 0); // still blocked
    settle();
    EXPECT_EQ(seen, 1);
    EXPECT_FALSE(loop_.add_signal(9999, [] {}, "no such signal", 0));
}

TEST_F(EventTest, ProcessExitFiresOnceAndLeavesReapingToOthers) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0)
        for (;;)
            pause();
    const Fd pidfd = pidfd_open(child).value();
    int fired = 0;
    const auto source = loop_.add_process_exit(pidfd.get(), [&] { ++fired; }, "child", 0).value();
    settle();
    EXPECT_EQ(fired, 0);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    run_until([&] { return fired == 1; });
    settle();
    EXPECT_EQ(fired, 1);
    EXPECT_EQ(waitpid(child, nullptr, 0), child);
}

TEST_F(EventTest, AnExitBeforeTheWatchBeganIsSeenToo) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(0);
    const Fd pidfd = pidfd_open(child).value();
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    bool fired = false;
    const auto source =
        loop_.add_process_exit(pidfd.get(), [&] { fired = true; }, "gone", 0).value();
    run_until([&] { return fired; });
}

// Under AddressSanitizer the next ones also show every use of freed memory.
TEST_F(EventTest, ASourceMayBeDestroyedInItsOwnCallback) {
    const auto [a, b] = make_seqpacket_pair(true).value();
    ASSERT_TRUE(write_all(a.get(), "x"));
    const auto token = std::make_shared<std::string>(1000, 't');
    const std::weak_ptr<std::string> watch = token;
    EventSource source;
    int calls = 0;
    bool alive_after_reset = false;
    source = loop_
                 .add_io(
                     b.get(), EPOLLIN,
                     [&, token = std::string(1000, 't'), keep = token](std::uint32_t) {
                         ++calls;
                         source.reset();
                         // What was captured is still there after the source is not.
                         alive_after_reset = keep->back() == 't' && token.back() == 't';
                     },
                     "suicide", 0
                 )
                 .value();
    settle();
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(alive_after_reset);
    EXPECT_FALSE(source);
    EXPECT_EQ(watch.use_count(), 1); // the callback is gone
}

TEST_F(EventTest, ASourceMayReplaceItselfInItsOwnCallback) {
    std::string order;
    EventSource source;
    source = loop_
                 .add_defer(
                     [&, text = std::string(100, 'x')] {
                         source = loop_.add_defer([&] { order += "second"; }, "two", 0).value();
                         order += "first" + text.substr(0, 1);
                     },
                     "one", 0
                 )
                 .value();
    settle();
    EXPECT_EQ(order, "firstxsecond");
}

TEST_F(EventTest, AnObjectMayDieInTheCallbackOfItsSource) {
    struct Owner {
        EventSource source;
        std::string name = std::string(100, 'o');
    };
    auto owner = std::make_unique<Owner>();
    bool gone = false;
    owner->source = loop_
                        .add_timer(
                            0,
                            [&] {
                                owner.reset();
                                gone = true;
                            },
                            "owner", 0
                        )
                        .value();
    run_until([&] { return gone; });
    settle();
    EXPECT_EQ(owner, nullptr);
}

TEST_F(EventTest, AnotherPendingSourceMayBeDestroyed) {
    EventSource second;
    bool ran = false;
    const auto first = loop_.add_defer([&] { second.reset(); }, "first", -1).value();
    second = loop_.add_defer([&] { ran = true; }, "second", 0).value();
    settle();
    EXPECT_FALSE(ran);
}

TEST_F(EventTest, SourcesMayOutliveTheLoop) {
    EventSource source;
    {
        EventLoop other = EventLoop::create().value();
        EventLoop moved = std::move(other);
        source = moved.add_timer(0, [] {}, "orphan", 0).value();
    }
    source.enable(false);
    source.reset();
    EXPECT_EQ(source.get(), nullptr);
}

TEST_F(EventTest, RunReturnsTheExitCode) {
    const auto source = loop_.add_defer([&] { loop_.exit(7); }, "exit", 0).value();
    EXPECT_EQ(loop_.run().value(), 7);
}

TEST(EventDeathTest, AnExceptionEndsTheProcess) {
    EXPECT_DEATH(
        {
            auto loop = EventLoop::create().value();
            const auto source =
                loop.add_defer([] { throw std::runtime_error("thrown here"); }, "t", 0).value();
            [[maybe_unused]] const auto ran = loop.run_once(0);
        },
        "thrown here"
    );
}

TEST(EventWatchdog, PingsTheManager) {
    const test::TemporaryDirectory folder;
    const std::string path = folder / "notify";
    const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
    setenv("WATCHDOG_USEC", "100000", 1);
    setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
    auto loop = EventLoop::create().value();
    ASSERT_TRUE(loop.enable_watchdog());
    int pings = 0;
    std::array<char, 256> buffer = {};
    const auto deadline = now_monotonic() + kUsecPerSec / 2;
    while (now_monotonic() < deadline) {
        ASSERT_TRUE(loop.run_once(10 * kUsecPerMsec));
        // As they come: a full queue would stop the sender.
        for (ssize_t n = 0; (n = read(socket.get(), buffer.data(), buffer.size())) > 0;)
            pings += std::string_view(buffer.data(), static_cast<std::size_t>(n)) == "WATCHDOG=1";
    }
    EXPECT_GE(pings, 4);
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
        unsetenv(name);
}

} // namespace
} // namespace thaw
