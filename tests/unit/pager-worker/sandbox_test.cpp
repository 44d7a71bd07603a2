// SPDX-License-Identifier: MIT
// What a worker may do once it serves.

#include "core/file.hpp"
#include "harness.hpp"
#include "sandbox.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace thaw::test {
namespace {

// Runs `attempt` in a child that has entered the sandbox: its errno, 0 for success.
int errno_in_sandbox(int (*attempt)()) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (!worker::enter_sandbox()) ::_exit(200);
        errno = 0;
        const int result = attempt();
        // Not _exit(): before what does not return AddressSanitizer asks for the signal stack,
        // which the sandbox refuses.
        ::syscall(SYS_exit_group, result < 0 ? errno : 0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(Sandbox, RefusesWhatServingDoesNotNeed) {
    EXPECT_EQ(errno_in_sandbox([] { return ::open("/etc/hostname", O_RDONLY); }), EPERM);
    EXPECT_EQ(errno_in_sandbox([] { return ::socket(AF_UNIX, SOCK_STREAM, 0); }), EPERM);
    EXPECT_EQ(errno_in_sandbox([] { return ::execl("/bin/true", "true", nullptr); }), EPERM);
    EXPECT_EQ(errno_in_sandbox([] { return ::kill(::getppid(), 0); }), EPERM);
    EXPECT_EQ(errno_in_sandbox([] { return static_cast<int>(::fork()); }), EPERM);
    EXPECT_EQ(
        errno_in_sandbox([] {
            return static_cast<int>(::ptrace(PTRACE_ATTACH, ::getppid(), nullptr, nullptr));
        }),
        EPERM
    );
    EXPECT_EQ(
        errno_in_sandbox([] { return static_cast<int>(::syscall(SYS_pidfd_getfd, 0, 0, 0)); }),
        EPERM
    );
    EXPECT_EQ(
        errno_in_sandbox([] { return static_cast<int>(::syscall(SYS_io_uring_setup, 1, nullptr)); }
        ),
        EPERM
    );
    EXPECT_EQ(errno_in_sandbox([] { return ::ioctl(0, TIOCSTI, nullptr); }), EPERM);
    EXPECT_EQ(
        errno_in_sandbox([] {
            void* code =
                ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            return code == MAP_FAILED ? -1 : 0;
        }),
        EPERM
    );
    EXPECT_EQ(errno_in_sandbox([] { return ::prctl(PR_SET_DUMPABLE, 1); }), EPERM);
}

TEST(Sandbox, AllowsWhatServingNeeds) {
    EXPECT_EQ(
        errno_in_sandbox([] {
            void* data =
                ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            return data == MAP_FAILED ? -1 : 0;
        }),
        0
    );
    EXPECT_EQ(errno_in_sandbox([] { return static_cast<int>(::write(2, "", 0)); }), 0);
}

class ServingWorker : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Engines, ServingWorker, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(ServingWorker, IsConfined) {
    const TestImage image(1 << 20);
    const Guest guest({.size = 1 << 20});
    BrokerOptions options;
    options.engine = GetParam();
    Broker broker(image, guest, std::move(options));
    auto worker = broker.start_ready();
    const auto status = read_file("/proc/" + std::to_string(worker.pid()) + "/status");
    ASSERT_TRUE(status);
    EXPECT_NE(status->find("Seccomp:\t2"), std::string::npos);
    EXPECT_NE(status->find("NoNewPrivs:\t1"), std::string::npos);
    EXPECT_NE(status->find("Name:\tthaw-pw test-vm"), std::string::npos);
    // The engine is the one that was asked for, and it is published.
    const auto engine = static_cast<protocol::FaultEngineKind>(broker.state().engine.load());
    EXPECT_EQ(protocol::engine_name(engine), std::string_view(GetParam()).substr(0, 8));
    EXPECT_EQ(broker.state().memory_lock, static_cast<std::uint32_t>(protocol::MemoryLock::All));
}

} // namespace
} // namespace thaw::test
