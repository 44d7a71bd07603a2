// SPDX-License-Identifier: MIT
#pragma once

// The messages of the userfaultfd, in the session memory from the moment they leave the kernel.
//
// A REMOVE releases its caller the moment it is read: were it lost with the worker that read it,
// the page would later be filled from the image again. So messages are read into this ring, a
// REMOVE is in the removed bitmap before its slot is cleared, and whoever takes over looks at every
// slot. Invariants: a buffer the kernel may write to is all zero; a slot whose event is not 0 was
// delivered and perhaps not processed.

#include "protocol/session_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace thaw::worker {

// Who is told what the messages say. Ranges and addresses are as the kernel gave them.
class MessageSink {
public:
    virtual ~MessageSink() = default;
    // `flags`: UFFD_PAGEFAULT_FLAG_*.
    virtual void page_fault(std::uint64_t address, std::uint64_t flags) = 0;
    // The range's content is gone for good. When this returns, the removed bitmap says so.
    virtual void removed(std::uint64_t start, std::uint64_t end) = 0;
    virtual void other_event(std::uint8_t event) = 0;
};

class MessageRing {
public:
    explicit MessageRing(protocol::MessageRing& ring) : ring_(ring) {}

    static constexpr std::size_t kBuffers = protocol::kRingBuffers;
    // Where the kernel may write; must be clear.
    std::span<std::byte> buffer(std::size_t index) const;

    // Hands the messages of a buffer's first `bytes` bytes on, then clears them. Returns how many
    // messages there were.
    std::size_t apply(std::size_t index, std::size_t bytes, MessageSink& sink) const;
    // Reads a non-blocking userfaultfd until it has nothing more, applying as it goes. An error
    // means that a message may be lost.
    Result<> read_all(int uffd, MessageSink& sink) const;
    // What a predecessor left, whatever the order: removals are applied, faults dropped (the waking
    // of all waiters brings them back). Leaves the ring clear. Returns how many messages there
    // were.
    std::size_t replay(MessageSink& sink) const;

private:
    protocol::MessageRing& ring_;
};

} // namespace thaw::worker
