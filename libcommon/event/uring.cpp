// SPDX-License-Identifier: MIT
#include "event/uring.hpp"

#include "core/text.hpp"

#include <cerrno>

namespace thaw {

namespace {

struct ProbeCloser {
    void operator()(io_uring_probe* probe) const noexcept { io_uring_free_probe(probe); }
};

} // namespace

void Uring::Closer::operator()(io_uring* ring) const noexcept {
    io_uring_queue_exit(ring);
    delete ring;
}

Uring::Uring(Uring&&) noexcept = default;
Uring& Uring::operator=(Uring&&) noexcept = default;
Uring::~Uring() = default;

Result<Uring> Uring::create(unsigned entries, unsigned flags) {
    // Not in a Uring before it is set up: closing a ring that never was would unmap rubbish.
    auto ring = std::make_unique<io_uring>();
    const int r = io_uring_queue_init(entries, ring.get(), flags);
    if (r < 0) return fail_errno(-r, "make an io_uring of {} entries", entries);
    return Uring(std::unique_ptr<io_uring, Closer>(ring.release()));
}

bool Uring::supports(unsigned opcode) const {
    const std::unique_ptr<io_uring_probe, ProbeCloser> probe(io_uring_get_probe_ring(ring_.get()));
    if (!probe || opcode > probe->last_op) return false;
    return (probe->ops[opcode].flags & IO_URING_OP_SUPPORTED) != 0;
}

Result<io_uring_sqe*> Uring::next_sqe() {
    if (io_uring_sqe* sqe = io_uring_get_sqe(ring_.get())) return sqe;
    THAW_CHECK(submit());
    if (io_uring_sqe* sqe = io_uring_get_sqe(ring_.get())) return sqe;
    return fail_errno(EBUSY, "get an io_uring submission entry");
}

Result<> Uring::submit() {
    int r = 0;
    do
        r = io_uring_submit(ring_.get());
    while (r == -EINTR);
    if (r < 0) return fail_errno(-r, "submit to io_uring");
    return {};
}

Result<bool> Uring::submit_and_wait(std::uint64_t timeout_us) {
    const bool forever = timeout_us == kInfinity;
    const Microseconds start = now_monotonic();
    for (;;) {
        const Microseconds passed = now_monotonic() - start;
        const Microseconds left = timeout_us > passed ? timeout_us - passed : 0;
        __kernel_timespec limit = {
            .tv_sec = static_cast<long long>(left / kUsecPerSec),
            .tv_nsec = static_cast<long long>(left % kUsecPerSec * 1000),
        };
        io_uring_cqe* first = nullptr;
        const int r = io_uring_submit_and_wait_timeout(
            ring_.get(), &first, 1, forever ? nullptr : &limit, nullptr
        );
        if (io_uring_cq_ready(ring_.get()) > 0) return true;
        if (r < 0 && r != -EINTR && r != -ETIME)
            return fail_errno(-r, "wait for io_uring completions");
        if (!forever && (r == -ETIME || now_monotonic() - start >= timeout_us)) return false;
    }
}

} // namespace thaw
