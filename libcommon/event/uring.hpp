// SPDX-License-Identifier: MIT
#pragma once

// RAII over one io_uring. Single thread; the owner submits and reaps.

#include "core/error.hpp"

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace thaw {

class Uring {
public:
    // `flags` as IORING_SETUP_*. EPERM/ENOSYS where policy or kernel forbids io_uring,
    // EINVAL where a flag is unknown to the kernel.
    static Result<Uring> create(unsigned entries, unsigned flags);
    Uring(Uring&&) noexcept;
    Uring& operator=(Uring&&) noexcept;
    Uring(const Uring&) = delete;
    Uring& operator=(const Uring&) = delete;
    ~Uring();

    io_uring* get() const noexcept { return ring_.get(); }
    // True when the running kernel knows the opcode (IORING_REGISTER_PROBE).
    bool supports(unsigned opcode) const;
    // A free submission entry; submits what is queued when the queue is full. EBUSY when it stays
    // so.
    Result<io_uring_sqe*> next_sqe();
    Result<> submit();
    // Submits and waits for at least one completion, at most `timeout_us` (UINT64_MAX: for ever).
    // ETIME is no error: returns false.
    Result<bool> submit_and_wait(std::uint64_t timeout_us);

private:
    struct Closer {
        void operator()(io_uring* ring) const noexcept;
    };
    explicit Uring(std::unique_ptr<io_uring, Closer> ring) noexcept : ring_(std::move(ring)) {}
    std::unique_ptr<io_uring, Closer> ring_;
};

} // namespace thaw
