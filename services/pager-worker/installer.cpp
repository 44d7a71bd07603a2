// SPDX-License-Identifier: MIT
#include "installer.hpp"

#include "core/kernel_compat.hpp"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>

namespace thaw::worker {

namespace {

static_assert(sizeof(protocol::CopyRecord) == sizeof(uffdio_copy));
static_assert(offsetof(protocol::CopyRecord, address) == offsetof(uffdio_copy, dst));
static_assert(offsetof(protocol::CopyRecord, source) == offsetof(uffdio_copy, src));
static_assert(offsetof(protocol::CopyRecord, length) == offsetof(uffdio_copy, len));
static_assert(offsetof(protocol::CopyRecord, mode) == offsetof(uffdio_copy, mode));
static_assert(offsetof(protocol::CopyRecord, done) == offsetof(uffdio_copy, copy));

// A kernel that knows UFFDIO_POISON looks at its argument and says EFAULT (EAGAIN while a removal
// is under way), one that does not says EINVAL. The argument is never valid, so nothing happens.
bool probe_poison(int uffd) {
    return ::ioctl(uffd, UFFDIO_POISON, nullptr) != 0 && (errno == EFAULT || errno == EAGAIN);
}

FillResult result_of(int returned, int errno_value, std::int64_t done, std::uint64_t length) {
    if (returned == 0) return {.outcome = FillOutcome::Done, .errno_value = 0, .done = length};
    return {
        .outcome = judge_fill(errno_value, done, length),
        .errno_value = errno_value,
        .done = done > 0 ? static_cast<std::uint64_t>(done) : 0,
    };
}

} // namespace

Installer::Installer(int uffd, protocol::CopyRecord& record)
    : uffd_(uffd), record_(record), can_poison_(probe_poison(uffd)) {}

FillResult Installer::copy(
    std::uint64_t address, const std::byte* source, std::uint64_t length, CopyMode mode
) const {
    constexpr auto kRelaxed = std::memory_order_relaxed;
    std::uint64_t bits = 0;
    if (mode != CopyMode::Plain) bits |= UFFDIO_COPY_MODE_WP;
    if (mode == CopyMode::ProtectedAsleep) bits |= UFFDIO_COPY_MODE_DONTWAKE;
    // What the last one did must not be taken for what this one does.
    record_.done.store(0, kRelaxed);
    record_.address.store(address, std::memory_order_release);
    record_.source.store(reinterpret_cast<std::uintptr_t>(source), kRelaxed);
    record_.length.store(length, kRelaxed);
    record_.mode.store(bits, kRelaxed);
    const int returned = ::ioctl(uffd_, UFFDIO_COPY, &record_);
    return result_of(returned, errno, record_.done.load(kRelaxed), length);
}

FillResult Installer::zero(std::uint64_t address, std::uint64_t length) const {
    uffdio_zeropage arg{};
    arg.range = {.start = address, .len = length};
    const int returned = ::ioctl(uffd_, UFFDIO_ZEROPAGE, &arg);
    return result_of(returned, errno, arg.zeropage, length);
}

FillResult Installer::set_protection(std::uint64_t address, std::uint64_t length, bool on) const {
    uffdio_writeprotect arg{};
    arg.range = {.start = address, .len = length};
    arg.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
    const int returned = ::ioctl(uffd_, UFFDIO_WRITEPROTECT, &arg);
    return result_of(returned, errno, 0, length);
}

FillResult Installer::protect(std::uint64_t address, std::uint64_t length) const {
    return set_protection(address, length, true);
}

FillResult Installer::unprotect(std::uint64_t address, std::uint64_t length) const {
    return set_protection(address, length, false);
}

int Installer::watch_writes(std::uint64_t address, std::uint64_t length) const {
    uffdio_register arg{};
    arg.range = {.start = address, .len = length};
    arg.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
    return ::ioctl(uffd_, UFFDIO_REGISTER, &arg) == 0 ? 0 : errno;
}

FillResult Installer::poison(std::uint64_t address, std::uint64_t length) const {
    uffdio_poison arg{};
    arg.range = {.start = address, .len = length};
    const int returned = ::ioctl(uffd_, UFFDIO_POISON, &arg);
    return result_of(returned, errno, arg.updated, length);
}

bool Installer::wake(std::uint64_t address, std::uint64_t length) const {
    uffdio_range arg{.start = address, .len = length};
    return ::ioctl(uffd_, UFFDIO_WAKE, &arg) == 0;
}

} // namespace thaw::worker
