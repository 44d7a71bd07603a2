// SPDX-License-Identifier: MIT
#include "fakes/run_until.hpp"
#include "notify_socket.hpp"
#include "systemd/notify.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

TEST(Notify, ReadyStatusStopping) {
    NotifySocket manager;
    notify_ready("2 sessions");
    auto message = manager.receive();
    ASSERT_TRUE(message);
    EXPECT_EQ(message->text, "READY=1\nSTATUS=2 sessions");
    notify_status("a\nREADY=1");
    message = manager.receive();
    ASSERT_TRUE(message);
    EXPECT_EQ(message->text, "STATUS=a READY=1") << "a line break must not smuggle assignments";
    notify_stopping();
    message = manager.receive();
    ASSERT_TRUE(message && message->has("STOPPING=1"));
    notify_failure(ENOSPC, "full");
    message = manager.receive();
    ASSERT_TRUE(message && message->has(fmt::format("ERRNO={}", ENOSPC)));
}

TEST(Notify, WithoutAManagerNothingHappens) {
    unsetenv("NOTIFY_SOCKET");
    notify_ready("x");
    FdStore store(4, 0);
    EXPECT_TRUE(store.push("a", STDIN_FILENO));
    EXPECT_EQ(store.held(), 0U);
}

std::uint64_t inode_of(int fd) {
    struct stat status{};
    fstat(fd, &status);
    return status.st_ino;
}

TEST(FdStore, PushSendsTheDescriptorAndCounts) {
    NotifySocket manager;
    FdStore store(3, 1);
    Fd pipe_ends[2];
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pipe_ends[0] = Fd(ends[0]);
    pipe_ends[1] = Fd(ends[1]);
    ASSERT_TRUE(store.push("web.uffd", ends[0]));
    auto message = manager.receive();
    ASSERT_TRUE(message);
    EXPECT_TRUE(message->has("FDSTORE=1"));
    EXPECT_TRUE(message->has("FDNAME=web.uffd"));
    EXPECT_TRUE(message->has("FDPOLL=0")) << "systemd would drop a hung-up descriptor";
    ASSERT_EQ(message->fds.size(), 1U);
    EXPECT_EQ(inode_of(message->fds[0].get()), inode_of(ends[0]));
    EXPECT_EQ(store.held(), 2U);
    ASSERT_TRUE(store.push("web.uffd", ends[1]));
    auto full = store.push("web.more", ends[1]);
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code(), ENOSPC);
    ASSERT_TRUE(manager.receive());
    EXPECT_FALSE(manager.receive(20)) << "nothing may be sent to a full store";

    store.remove("web.uffd", 2);
    EXPECT_EQ(store.held(), 1U);
    message = manager.receive();
    ASSERT_TRUE(message);
    EXPECT_EQ(message->text, "FDSTOREREMOVE=1\nFDNAME=web.uffd");
    store.remove("ghost", 5);
    EXPECT_EQ(store.held(), 0U);
}

TEST(FdStore, BadNamesAreRefused) {
    NotifySocket manager;
    FdStore store(10, 0);
    for (const auto& name :
         {std::string(), std::string("a:b"), std::string("a\nREADY=1"), std::string(256, 'x'),
          std::string("\xc3\xa4"), std::string("a b")}) {
        auto pushed = store.push(name, STDIN_FILENO);
        ASSERT_FALSE(pushed) << name;
        EXPECT_EQ(pushed.error().code(), EINVAL);
    }
    EXPECT_FALSE(manager.receive(20));
}

class Barrier : public ::testing::Test {
public:
    void SetUp() override {
        auto made = EventLoop::create();
        ASSERT_TRUE(made);
        loop.emplace(std::move(*made));
    }
    std::unique_ptr<NotifyBarrier> send(Microseconds timeout) {
        auto barrier = NotifyBarrier::send(*loop, timeout, [this](Result<> r) {
            ++told;
            result = std::move(r);
        });
        EXPECT_TRUE(barrier);
        return barrier ? std::move(*barrier) : nullptr;
    }
    std::optional<EventLoop> loop;
    std::optional<Result<>> result;
    unsigned told = 0;
};

TEST_F(Barrier, PassesWhenTheManagerClosesItsEnd) {
    NotifySocket manager;
    auto barrier = send(10 * kUsecPerSec);
    auto message = manager.receive();
    ASSERT_TRUE(message && message->has("BARRIER=1"));
    ASSERT_EQ(message->fds.size(), 1U);
    fakes::run_for(*loop, 30 * kUsecPerMsec);
    EXPECT_FALSE(result) << "the manager still holds the pipe";
    message->fds.clear();
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return result.has_value(); }));
    EXPECT_TRUE(*result);
    fakes::run_for(*loop, 20 * kUsecPerMsec);
    EXPECT_EQ(told, 1U);
}

TEST_F(Barrier, TimesOut) {
    NotifySocket manager;
    auto barrier = send(20 * kUsecPerMsec);
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return result.has_value(); }));
    ASSERT_FALSE(*result);
    EXPECT_EQ(result->error().code(), ETIMEDOUT);
}

TEST_F(Barrier, PassesAtOnceWithoutAManager) {
    unsetenv("NOTIFY_SOCKET");
    auto barrier = send(10 * kUsecPerSec);
    EXPECT_FALSE(result) << "never from inside send()";
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return result.has_value(); }));
    EXPECT_TRUE(*result);
}

TEST_F(Barrier, HandlerMayDropIt) {
    unsetenv("NOTIFY_SOCKET");
    std::unique_ptr<NotifyBarrier> barrier;
    bool done = false;
    auto made = NotifyBarrier::send(*loop, kUsecPerSec, [&](Result<>) {
        barrier.reset();
        done = true;
    });
    ASSERT_TRUE(made);
    barrier = std::move(*made);
    EXPECT_TRUE(fakes::run_until(*loop, [&] { return done; }));
}

TEST_F(Barrier, DroppedIsSilent) {
    unsetenv("NOTIFY_SOCKET");
    send(kUsecPerSec).reset();
    fakes::run_for(*loop, 20 * kUsecPerMsec);
    EXPECT_EQ(told, 0U);
}

// Descriptors are taken from fixed numbers, so this happens in a process of its own.
int take_in_child() {
    const int null = open("/dev/null", O_RDWR);
    for (int fd = 3; fd < 6; ++fd)
        if (fd != null) dup2(null, fd);
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", "3", 1);
    setenv("LISTEN_FDNAMES", "control:web.uffd:web.uffd", 1);
    auto fds = take_listen_fds();
    if (!fds || fds->size() != 3) return 1;
    if ((*fds)[0].name != "control" || (*fds)[2].name != "web.uffd") return 2;
    for (int i = 0; i < 3; ++i) {
        const int fd = (*fds)[static_cast<std::size_t>(i)].fd.get();
        if (fd != 3 + i || (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) return 3;
    }
    if (getenv("LISTEN_FDS") != nullptr) return 4;
    auto again = take_listen_fds();
    return again && again->empty() ? 0 : 5;
}

TEST(ListenFds, TakenOnceByName) {
    const pid_t pid = fork();
    if (pid == 0) _exit(take_in_child());
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
