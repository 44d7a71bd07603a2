// SPDX-License-Identifier: MIT
#include "message_ring.hpp"

#include <linux/userfaultfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace thaw::worker {

namespace {

static_assert(sizeof(uffd_msg) == protocol::kMessageSize);

uffd_msg copy_out(const protocol::RingMessage& slot) {
    uffd_msg message;
    std::memcpy(&message, slot.bytes, sizeof message);
    return message;
}

void dispatch(const uffd_msg& message, MessageSink& sink) {
    switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
        sink.page_fault(message.arg.pagefault.address, message.arg.pagefault.flags);
        return;
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP: // gone from the address space: what is mapped there later is not ours
        sink.removed(message.arg.remove.start, message.arg.remove.end);
        return;
    default:
        sink.other_event(message.event);
        return;
    }
}

} // namespace

std::span<std::byte> MessageRing::buffer(std::size_t index) const {
    return std::as_writable_bytes(std::span(ring_.at(index)));
}

std::size_t MessageRing::apply(std::size_t index, std::size_t bytes, MessageSink& sink) const {
    auto& slots = ring_.at(index);
    const std::size_t count = std::min(bytes / protocol::kMessageSize, slots.size());
    for (std::size_t i = 0; i < count; ++i)
        dispatch(copy_out(slots[i]), sink);
    // What the messages did must be in the session memory before they are not.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    std::memset(slots.data(), 0, count * protocol::kMessageSize);
    return count;
}

Result<> MessageRing::read_all(int uffd, MessageSink& sink) const {
    // Every message has a thread of the VMM behind it that sleeps until it is read or answered, so
    // this ends; the bound is for a VMM that makes threads faster than we read.
    constexpr int kMostReads = 256;
    const std::span<std::byte> target = buffer(0);
    for (int i = 0; i < kMostReads; ++i) {
        const ssize_t got = ::read(uffd, target.data(), target.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return {};
        if (got < 0) return fail_errno(errno, "read the userfaultfd");
        apply(0, static_cast<std::size_t>(got), sink);
        // A short read found the queue empty.
        if (static_cast<std::size_t>(got) < target.size()) return {};
    }
    return {};
}

std::size_t MessageRing::replay(MessageSink& sink) const {
    std::size_t found = 0;
    for (auto& buffer : ring_) {
        for (auto& slot : buffer) {
            const uffd_msg message = copy_out(slot);
            if (message.event == 0) continue;
            ++found;
            if (message.event != UFFD_EVENT_PAGEFAULT) dispatch(message, sink);
        }
        std::atomic_thread_fence(std::memory_order_seq_cst);
        std::memset(buffer.data(), 0, sizeof buffer);
    }
    return found;
}

} // namespace thaw::worker
