// SPDX-License-Identifier: MIT
#pragma once

// What a worker waits for, behind one interface with two makes: epoll and io_uring. Both read the
// userfaultfd into the message ring and hand every message to the sink before they return, so no
// fill can come between a read and its removals. Both also read files without making anybody wait:
// io_uring by itself, epoll with threads that do nothing but pread().

#include "core/error.hpp"
#include "message_ring.hpp"
#include "protocol/session_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace thaw::worker {

// A read of a file. `target` stays valid until its end is reported.
struct ReadRequest {
    std::uint64_t token = 0; // the caller's
    int fd = -1;
    std::uint64_t offset = 0;
    std::span<std::byte> target;
};
struct ReadEnd {
    std::uint64_t token = 0;
    std::int64_t result = 0; // bytes, may be fewer than wanted; 0: end of file; negative: errno
};

struct EngineEvents {
    bool vmm_exited = false;
    bool channel = false;           // readable or closed
    std::span<const ReadEnd> reads; // until the next wait()
};

class FaultEngine {
public:
    struct Descriptors {
        int uffd = -1; // non-blocking
        int vmm_pidfd = -1;
        // Registered with the kernel where that is possible: reads into it are cheaper.
        std::span<std::byte> read_buffer;
    };
    virtual ~FaultEngine() = default;
    virtual protocol::FaultEngineKind kind() const = 0;

    // Takes all messages that are there, without waiting. An error means that a message may be
    // lost.
    virtual Result<> drain() = 0;
    // Waits for messages, the end of the VMM, the channel or the deadline (CLOCK_MONOTONIC, kNever:
    // none), and takes the messages.
    virtual Result<EngineEvents> wait(std::uint64_t deadline_ns) = 0;
    // The descriptor of the channel to the broker; -1: none. A closed one must be replaced before
    // the next wait().
    virtual Result<> watch_channel(int fd) = 0;
    // Begins a read; its end comes with a later wait(). EBUSY: too many at once.
    virtual Result<> read(const ReadRequest& request) = 0;
    virtual bool has_registered_buffer() const { return false; }
    // Lets go of Descriptors::read_buffer; no read into it is under way.
    virtual void release_buffer() {}
};

// `ring` and `sink` outlive the engine, and so do the descriptors.
Result<std::unique_ptr<FaultEngine>> make_epoll_engine(
    const FaultEngine::Descriptors& descriptors, const MessageRing& ring, MessageSink& sink
);

// Best: one READ_MULTISHOT into all buffers (Linux 6.7), else as Polled: the ring polls and read()
// takes the messages. Single reads through the ring are no choice: after a number of wake-ups in
// vain (several reads in flight see those all the time) the kernel hands a read to a thread of its
// own, and that one takes messages while we fill pages. Measured: a removed page came back.
enum class UringReads { Best, Polled };
// An error says that this kernel or its policy does not allow such a ring (DEFER_TASKRUN: Linux
// 6.1). Without that flag the kernel would take messages at the end of any system call, a fill
// included.
Result<std::unique_ptr<FaultEngine>> make_uring_engine(
    const FaultEngine::Descriptors& descriptors, const MessageRing& ring, MessageSink& sink,
    UringReads reads
);

} // namespace thaw::worker
