// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "core/text.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace thaw {
namespace {

// A child that sleeps until it is killed; reaped at the end.
class Child {
public:
    Child() : pid_(fork()) {
        if (pid_ == 0)
            for (;;)
                pause();
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() { reap(); }
    pid_t pid() const { return pid_; }
    void reap() {
        if (pid_ <= 0) return;
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

private:
    pid_t pid_;
};

void wait_for_exit(int pidfd) {
    pollfd entry = {.fd = pidfd, .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&entry, 1, 10000), 1);
}

TEST(Pidfd, LifeOfAProcess) {
    Child child;
    const Fd pidfd = pidfd_open(child.pid()).value();
    EXPECT_TRUE(fcntl(pidfd.get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_FALSE(pidfd_has_exited(pidfd.get()));
    EXPECT_EQ(pidfd_to_pid(pidfd.get()).value(), child.pid());
    ASSERT_TRUE(pidfd_send_signal(pidfd.get(), SIGKILL));
    wait_for_exit(pidfd.get());
    EXPECT_TRUE(pidfd_has_exited(pidfd.get())); // a zombie
    EXPECT_EQ(pidfd_to_pid(pidfd.get()).value(), child.pid());
    child.reap();
    EXPECT_TRUE(pidfd_has_exited(pidfd.get()));
    EXPECT_EQ(pidfd_to_pid(pidfd.get()).error().code(), ESRCH);
    EXPECT_EQ(pidfd_send_signal(pidfd.get(), SIGTERM).error().code(), ESRCH);
}

TEST(Pidfd, NotAProcess) {
    const Fd null = open_file("/dev/null", O_RDONLY).value();
    EXPECT_EQ(pidfd_to_pid(null.get()).error().code(), EBADF);
    EXPECT_FALSE(pidfd_to_pid(-1));
    EXPECT_EQ(pidfd_open(-1).error().code(), EINVAL);
}

TEST(SocketPeer, IsWhoConnected) {
    const test::TemporaryDirectory folder;
    const Fd listener = listen_unix(folder / "s", SOCK_STREAM, 1).value();
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        const auto connected = connect_unix(folder / "s", SOCK_STREAM, false);
        if (!connected) _exit(1);
        for (;;)
            pause();
    }
    ASSERT_TRUE(set_nonblocking(listener.get(), false));
    const Fd accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(accepted);
    const auto peer = socket_peer(accepted.get());
    ASSERT_TRUE(peer) << peer.error().message();
    EXPECT_EQ(peer->pid, pid);
    EXPECT_EQ(peer->uid, getuid());
    EXPECT_EQ(pidfd_to_pid(peer->pidfd.get()).value(), pid);

    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    EXPECT_TRUE(pidfd_has_exited(peer->pidfd.get()));
    EXPECT_EQ(socket_peer(accepted.get()).error().code(), ESRCH);
}

TEST(SocketPeer, NotASocket) {
    const Fd null = open_file("/dev/null", O_RDONLY).value();
    EXPECT_EQ(socket_peer(null.get()).error().code(), ENOTSOCK);
}

} // namespace
} // namespace thaw
