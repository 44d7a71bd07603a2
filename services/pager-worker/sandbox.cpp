// SPDX-License-Identifier: MIT
#include "sandbox.hpp"

#include "core/kernel_compat.hpp"

#include <seccomp.h>

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <array>
#include <cerrno>
#include <memory>

namespace thaw::worker {

protocol::MemoryLock lock_memory(protocol::SessionMemory& memory) noexcept {
    using protocol::MemoryLock;
    // ONFAULT: what is never touched (the rest of a library, a huge zero buffer) costs nothing.
    if (::mlockall(MCL_CURRENT | MCL_ONFAULT) == 0 && memory.lock_pages()) return MemoryLock::All;
    ::munlockall();
    return memory.lock_pages() ? MemoryLock::Ring : MemoryLock::None;
}

namespace {

// What the loop, the allocator and the log need.
constexpr std::array kAllowed{
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv2),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register), // the ring's own restrictions leave one operation of it
    SCMP_SYS(connect),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(getrusage),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(sched_yield),
    SCMP_SYS(futex),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstat),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

// The ioctls of a userfaultfd that neither end a registration nor change its features. The high
// half of the request register is not looked at: the kernel does not either.
constexpr std::array<unsigned long, 6> kIoctls{
    UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_WAKE, UFFDIO_POISON, UFFDIO_WRITEPROTECT, UFFDIO_REGISTER,
};

int add_rules(scmp_filter_ctx filter) {
    for (const int number : kAllowed)
        if (const int error = ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0); error != 0)
            return error;
    for (const unsigned long request : kIoctls) {
        const int error = ::seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
            SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffff'ffffUL, request)
        );
        if (error != 0) return error;
    }
    // Memory, but none that can be run.
    for (const int number : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
        const int error = ::seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, number, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)
        );
        if (error != 0) return error;
    }
    return 0;
}

} // namespace

Result<> enter_sandbox() {
    if (::prctl(PR_SET_DUMPABLE, 0) != 0 || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail_errno(errno, "give privileges up");
    const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(
        ::seccomp_init(SCMP_ACT_ERRNO(EPERM)), &::seccomp_release
    );
    if (!filter) return fail(ENOMEM, "make the system call filter");
    // The reader threads of the epoll engine too.
    if (const int error = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1); error != 0)
        return fail_errno(-error, "extend the system call filter to all threads");
    if (const int error = add_rules(filter.get()); error != 0)
        return fail_errno(-error, "build the system call filter");
    if (const int error = ::seccomp_load(filter.get()); error != 0)
        return fail_errno(-error, "load the system call filter");
    return {};
}

} // namespace thaw::worker
