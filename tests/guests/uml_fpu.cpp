// SPDX-License-Identifier: MIT
// For LD_PRELOAD below user-mode Linux. Its kernels before 6.13 set the registers of their
// processes from a buffer of a fixed size, and a host whose CPU has more state than fits (AMX)
// refuses that (EFAULT), so that they do not boot. What they leave out is what it was before.

#include <cpuid.h>
#include <elf.h>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr std::size_t kMostState = 64 << 10;
// Of the standard format: the word of the header that says which components are not as after reset.
constexpr std::size_t kComponents = 512;
constexpr unsigned kFirstExtended = 2;
constexpr unsigned kMostComponents = 63;

// The components that lie within the first `size` bytes, as bits.
std::uint64_t components_within(std::size_t size) {
    std::uint64_t bits = 0b11; // x87 and SSE
    for (unsigned number = kFirstExtended; number < kMostComponents; ++number) {
        unsigned length = 0;
        unsigned offset = 0;
        unsigned c = 0;
        unsigned d = 0;
        if (__get_cpuid_count(0xd, number, &length, &offset, &c, &d) == 0 || length == 0) continue;
        if (offset + length <= size) bits |= std::uint64_t{1} << number;
    }
    return bits;
}

long call(int request, pid_t pid, void* address, void* data) {
    return ::syscall(SYS_ptrace, static_cast<long>(request), static_cast<long>(pid), address, data);
}

// What is in `given` over all that the process has now.
long set_state(pid_t pid, const iovec& given) {
    // Its threads have small stacks, and only one runs at a time.
    alignas(64) static std::byte whole[kMostState];
    auto* const note = reinterpret_cast<void*>(NT_X86_XSTATE);
    iovec all{.iov_base = whole, .iov_len = sizeof whole};
    if (const long failed = call(PTRACE_GETREGSET, pid, note, &all); failed != 0) return failed;
    std::uint64_t before = 0;
    std::uint64_t wanted = 0;
    std::memcpy(&before, whole + kComponents, sizeof before);
    std::memcpy(whole, given.iov_base, std::min(given.iov_len, all.iov_len));
    std::memcpy(&wanted, whole + kComponents, sizeof wanted);
    static const std::uint64_t given_ones = components_within(given.iov_len);
    const std::uint64_t components = (before & ~given_ones) | (wanted & given_ones);
    std::memcpy(whole + kComponents, &components, sizeof components);
    return call(PTRACE_SETREGSET, pid, note, &all);
}

} // namespace

// As the C library's, which reads and answers with what it read.
extern "C" __attribute__((visibility("default"))) long ptrace(int request, ...) {
    va_list arguments;
    va_start(arguments, request);
    const pid_t pid = va_arg(arguments, pid_t);
    void* address = va_arg(arguments, void*);
    void* data = va_arg(arguments, void*);
    va_end(arguments);
    if (request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSR) {
        long word = 0;
        const long failed = call(request, pid, address, &word);
        if (failed < 0) return failed;
        errno = 0;
        return word;
    }
    const long done = call(request, pid, address, data);
    const bool is_state =
        request == PTRACE_SETREGSET && address == reinterpret_cast<void*>(NT_X86_XSTATE);
    if (done == 0 || errno != EFAULT || !is_state) return done;
    return set_state(pid, *static_cast<const iovec*>(data));
}
