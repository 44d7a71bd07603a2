// SPDX-License-Identifier: MIT
#include "clock.hpp"
#include "core/kernel_compat.hpp"
#include "event/uring.hpp"
#include "fault_engine.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

namespace thaw::worker {

namespace {

constexpr unsigned kEntries = 128; // the completion queue gets twice that: more than all buffers
constexpr unsigned short kBufferGroup = 0;

enum class Tag : std::uint8_t { Multishot = 1, Readable, Vmm, Channel, Ignored, Read };

std::uint64_t user_data(Tag tag, std::uint64_t detail = 0) {
    return detail << 8 | static_cast<std::uint64_t>(tag);
}

// The page through which free buffers go to the kernel.
class BufferRing {
public:
    static Result<BufferRing> create(io_uring* ring) {
        constexpr std::size_t kSize = 4096; // 64 entries of 16 bytes, but page-aligned
        void* base =
            ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) return fail_errno(errno, "map a buffer ring");
        BufferRing buffers(static_cast<io_uring_buf_ring*>(base));
        io_uring_buf_reg registration{};
        registration.ring_addr = reinterpret_cast<std::uintptr_t>(base);
        registration.ring_entries = MessageRing::kBuffers;
        registration.bgid = kBufferGroup;
        const int error = io_uring_register_buf_ring(ring, &registration, 0);
        if (error != 0) return fail_errno(-error, "register a buffer ring");
        io_uring_buf_ring_init(buffers.base_);
        return buffers;
    }
    BufferRing(BufferRing&& other) noexcept : base_(std::exchange(other.base_, nullptr)) {}
    BufferRing& operator=(BufferRing&&) = delete;
    BufferRing(const BufferRing&) = delete;
    BufferRing& operator=(const BufferRing&) = delete;
    ~BufferRing() {
        if (base_ != nullptr) ::munmap(base_, 4096);
    }

    // The buffer is clear; from now on it is the kernel's.
    void give(std::span<std::byte> buffer, std::size_t index) {
        io_uring_buf_ring_add(
            base_, buffer.data(), static_cast<unsigned>(buffer.size()),
            static_cast<unsigned short>(index), io_uring_buf_ring_mask(MessageRing::kBuffers), 0
        );
        io_uring_buf_ring_advance(base_, 1);
    }

private:
    explicit BufferRing(io_uring_buf_ring* base) : base_(base) {}
    io_uring_buf_ring* base_;
};

// Completions are produced only inside io_uring_enter() (DEFER_TASKRUN), which only drain() and
// wait() call, and both reap all of them before they return: that is the rule "no fill between a
// read and its removals". Nothing else here may submit; read() only queues.
class UringEngine final : public FaultEngine {
public:
    UringEngine(
        Uring uring, std::unique_ptr<BufferRing> buffers, const Descriptors& fds,
        const MessageRing& ring, MessageSink& sink
    )
        : uring_(std::move(uring)), buffers_(std::move(buffers)), fds_(fds), ring_(ring),
          sink_(sink) {}

    protocol::FaultEngineKind kind() const override { return protocol::FaultEngineKind::IoUring; }
    Result<> drain() override;
    Result<EngineEvents> wait(std::uint64_t deadline_ns) override;
    Result<> watch_channel(int fd) override;
    Result<> read(const ReadRequest& request) override;
    bool has_registered_buffer() const override { return !registered_.empty(); }
    void release_buffer() override;
    void set_registered(std::span<std::byte> buffer) { registered_ = buffer; }
    // Queues what the kernel shall do; nothing runs before the first drain() or wait().
    Result<> arm();

private:
    Result<> arm_multishot();
    Result<> arm_poll(int fd, std::uint64_t data);
    Result<> reap();
    Result<> on_multishot(int result, unsigned flags);
    Result<> on_readable();
    Result<> on_other(std::uint64_t data);

    Uring uring_;
    std::unique_ptr<BufferRing> buffers_; // none: polled reads
    Descriptors fds_;
    MessageRing ring_;
    MessageSink& sink_;
    EngineEvents events_;
    std::span<std::byte> registered_; // buffer 0 of the ring
    std::vector<ReadEnd> reads_;      // ended since wait() began
    bool more_ = false;               // a full buffer came: there may be more in the kernel
    bool got_any_ = false;
    bool carried_reads_ = false;
    int channel_ = -1;
    bool channel_armed_ = false;
    std::uint64_t channel_generation_ = 0;
};

// What ends a read without any message being lost.
bool is_harmless(int result) {
    return result == -ENOBUFS || result == -EAGAIN || result == -EINTR || result == -ECANCELED;
}

Result<> UringEngine::arm() {
    THAW_CHECK(arm_poll(fds_.vmm_pidfd, user_data(Tag::Vmm)));
    if (!buffers_) return arm_poll(fds_.uffd, user_data(Tag::Readable));
    for (std::size_t i = 0; i < MessageRing::kBuffers; ++i)
        buffers_->give(ring_.buffer(i), i);
    return arm_multishot();
}

Result<> UringEngine::arm_multishot() {
    THAW_TRY(io_uring_sqe * sqe, uring_.next_sqe());
    io_uring_prep_rw(static_cast<int>(kIoringOpReadMultishot), sqe, fds_.uffd, nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = kBufferGroup;
    io_uring_sqe_set_data64(sqe, user_data(Tag::Multishot));
    return {};
}

Result<> UringEngine::arm_poll(int fd, std::uint64_t data) {
    THAW_TRY(io_uring_sqe * sqe, uring_.next_sqe());
    io_uring_prep_poll_add(sqe, fd, POLLIN);
    io_uring_sqe_set_data64(sqe, data);
    return {};
}

Result<> UringEngine::on_multishot(int result, unsigned flags) {
    if (result > 0) {
        const std::size_t index = flags >> IORING_CQE_BUFFER_SHIFT;
        const auto bytes = static_cast<std::size_t>(result);
        ring_.apply(index, bytes, sink_);
        buffers_->give(ring_.buffer(index), index);
        more_ = more_ || bytes == protocol::kRingBufferSize;
        got_any_ = true;
    } else if (!is_harmless(result)) {
        return fail_errno(-result, "read the userfaultfd");
    }
    return (flags & IORING_CQE_F_MORE) != 0 ? Result<>() : arm_multishot();
}

Result<> UringEngine::on_readable() {
    THAW_CHECK(ring_.read_all(fds_.uffd, sink_));
    return arm_poll(fds_.uffd, user_data(Tag::Readable));
}

Result<> UringEngine::on_other(std::uint64_t data) {
    if (data == user_data(Tag::Vmm)) {
        events_.vmm_exited = true;
        return {};
    }
    if (data != user_data(Tag::Channel, channel_generation_)) return {}; // an earlier channel's
    events_.channel = true;
    // Level-triggered: looked at again when the next wait() submits this.
    return arm_poll(channel_, data);
}

Result<> UringEngine::reap() {
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(uring_.get(), &cqe) == 0) {
        const std::uint64_t data = cqe->user_data;
        const int result = cqe->res;
        const unsigned flags = cqe->flags;
        io_uring_cqe_seen(uring_.get(), cqe);
        switch (static_cast<Tag>(data & 0xff)) {
        case Tag::Multishot:
            THAW_CHECK(on_multishot(result, flags));
            break;
        case Tag::Readable:
            THAW_CHECK(on_readable());
            break;
        case Tag::Read:
            reads_.push_back({.token = data >> 8, .result = result});
            break;
        default:
            THAW_CHECK(on_other(data));
            break;
        }
    }
    return {};
}

Result<> UringEngine::drain() {
    if (!buffers_) return ring_.read_all(fds_.uffd, sink_);
    constexpr int kMostTurns = 256; // for a VMM that makes threads faster than we read
    for (int turn = 0; turn < kMostTurns; ++turn) {
        got_any_ = false;
        const int error = io_uring_submit_and_get_events(uring_.get());
        if (error < 0 && error != -EINTR && error != -EBUSY)
            return fail_errno(-error, "enter io_uring");
        THAW_CHECK(reap());
        if (!got_any_) break;
    }
    more_ = false;
    carried_reads_ = !reads_.empty(); // the next wait() hands them out
    return {};
}

Result<> UringEngine::read(const ReadRequest& request) {
    io_uring_sqe* sqe = io_uring_get_sqe(uring_.get());
    if (sqe == nullptr) return fail(EBUSY, "too many reads at once");
    const auto size = static_cast<unsigned>(request.target.size());
    const std::byte* begin = registered_.data();
    if (!registered_.empty() && request.target.data() >= begin &&
        request.target.data() + size <= begin + registered_.size())
        io_uring_prep_read_fixed(sqe, request.fd, request.target.data(), size, request.offset, 0);
    else
        io_uring_prep_read(sqe, request.fd, request.target.data(), size, request.offset);
    io_uring_sqe_set_data64(sqe, user_data(Tag::Read, request.token));
    return {};
}

void UringEngine::release_buffer() {
    if (registered_.empty()) return;
    registered_ = {};
    // liburing's io_uring_unregister_buffers(), which the floor's library has; the restrictions
    // allow it. A failure leaves the memory pinned, nothing worse.
    static_cast<void>(io_uring_unregister_buffers(uring_.get()));
}

Result<EngineEvents> UringEngine::wait(std::uint64_t deadline_ns) {
    events_ = {};
    if (!carried_reads_) reads_.clear();
    carried_reads_ = false;
    const std::uint64_t now = deadline_ns == kNever ? 0 : now_ns();
    int error = 0;
    if (deadline_ns <= now) {
        error = io_uring_submit_and_get_events(uring_.get());
    } else {
        const std::uint64_t left = deadline_ns - now;
        __kernel_timespec limit{
            .tv_sec = static_cast<long long>(left / 1'000'000'000),
            .tv_nsec = static_cast<long long>(left % 1'000'000'000),
        };
        io_uring_cqe* first = nullptr;
        error = io_uring_submit_and_wait_timeout(
            uring_.get(), &first, 1, deadline_ns == kNever ? nullptr : &limit, nullptr
        );
    }
    if (error < 0 && error != -ETIME && error != -EINTR && error != -EBUSY && error != -EAGAIN)
        return fail_errno(-error, "wait in io_uring");
    THAW_CHECK(reap());
    // A buffer that is not full found the queue of the kernel empty behind it.
    if (more_) THAW_CHECK(drain());
    carried_reads_ = false;
    events_.reads = reads_;
    return events_;
}

Result<> UringEngine::watch_channel(int fd) {
    if (channel_armed_) {
        THAW_TRY(io_uring_sqe * sqe, uring_.next_sqe());
        io_uring_prep_poll_remove(sqe, user_data(Tag::Channel, channel_generation_));
        io_uring_sqe_set_data64(sqe, user_data(Tag::Ignored));
    }
    ++channel_generation_;
    channel_ = fd;
    channel_armed_ = fd >= 0;
    return fd < 0 ? Result<>() : arm_poll(fd, user_data(Tag::Channel, channel_generation_));
}

// liburing declares functions for these two, but Debian 12's shared library lacks them.
Result<> register_with(io_uring* ring, unsigned operation, void* argument, unsigned count) {
    if (::syscall(SYS_io_uring_register, ring->ring_fd, operation, argument, count) < 0)
        return fail_errno(errno, "restrict io_uring");
    return {};
}

// A ring that can do what this file does and nothing else: no opening, no connecting, no sending,
// whatever the system call filter could not see.
Result<> restrict_ring(io_uring* ring, bool multishot) {
    std::array<io_uring_restriction, 7> rules{};
    const auto allow = [](io_uring_restriction& rule, unsigned opcode) {
        rule.opcode = IORING_RESTRICTION_SQE_OP;
        rule.sqe_op = static_cast<__u8>(opcode);
    };
    allow(rules[0], IORING_OP_READ);
    allow(rules[1], IORING_OP_POLL_ADD);
    allow(rules[2], IORING_OP_POLL_REMOVE);
    rules[3].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[3].sqe_flags = IOSQE_BUFFER_SELECT;
    allow(rules[4], IORING_OP_READ_FIXED);
    rules[5].opcode = IORING_RESTRICTION_REGISTER_OP;
    rules[5].register_op = IORING_UNREGISTER_BUFFERS;
    allow(rules[6], kIoringOpReadMultishot);
    const unsigned count = multishot ? 7 : 6;
    THAW_CHECK(register_with(ring, IORING_REGISTER_RESTRICTIONS, rules.data(), count));
    return register_with(ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
}

} // namespace

Result<std::unique_ptr<FaultEngine>> make_uring_engine(
    const FaultEngine::Descriptors& descriptors, const MessageRing& ring, MessageSink& sink,
    UringReads reads
) {
    THAW_TRY(
        Uring uring, Uring::create(
                         kEntries, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                       IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP
                     )
    );
    const bool multishot = reads == UringReads::Best && uring.supports(kIoringOpReadMultishot);
    std::unique_ptr<BufferRing> buffers;
    if (multishot) {
        THAW_TRY(BufferRing made, BufferRing::create(uring.get()));
        buffers = std::make_unique<BufferRing>(std::move(made));
    }
    // Counted against RLIMIT_MEMLOCK, per user: often refused, and then plain reads do as well.
    const auto buffer = descriptors.read_buffer;
    const iovec whole{.iov_base = buffer.data(), .iov_len = buffer.size()};
    const bool registered =
        !buffer.empty() && io_uring_register_buffers(uring.get(), &whole, 1) == 0;
    THAW_CHECK(restrict_ring(uring.get(), multishot));
    auto engine = std::make_unique<UringEngine>(
        std::move(uring), std::move(buffers), descriptors, ring, sink
    );
    if (registered) engine->set_registered(buffer);
    THAW_CHECK(engine->arm());
    return engine;
}

} // namespace thaw::worker
