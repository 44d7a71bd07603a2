// SPDX-License-Identifier: MIT
#pragma once

// The VMM's half of vhost-user for a virtiofs device, without a guest: shared memory with two
// virtqueues in it (high priority and requests) that a real virtiofsd serves. One thread; calls
// block, at most kPatience.

#include "core/fd.hpp"
#include "core/text.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace thaw::virtiofs {

// A value as it goes over the wire.
template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

// Indices of the queues (virtio 1.2, 5.11.2).
enum class QueueId : std::uint32_t { HighPriority = 0, Request = 1 };

// The daemon's features as it offered them.
struct Offer {
    std::uint64_t features = 0;
    std::uint64_t protocol_features = 0;
    std::uint64_t queues = 0;
};

class Frontend {
public:
    // Requests in flight at most, and room for the bytes of each direction.
    static constexpr unsigned kSlots = 16;
    static constexpr std::size_t kSlotBytes = (std::size_t{1} << 20) + 8192;
    // A daemon that is asked for nothing unusual answers in microseconds.
    static constexpr Microseconds kPatience = 30 * kUsecPerSec;

    // Connects and sets everything up. ECONNREFUSED, ENOENT: nobody listens; ECONNRESET: the
    // daemon hung up meanwhile.
    static Result<Frontend> connect(const std::string& socket);
    Frontend(Frontend&& other) noexcept;
    Frontend& operator=(Frontend&&) = delete;
    Frontend(const Frontend&) = delete;
    Frontend& operator=(const Frontend&) = delete;
    ~Frontend();

    const Offer& offer() const { return offer_; }

    // Where the caller puts a request of slot `slot` and finds the answer.
    std::span<std::byte> request_bytes(unsigned slot) const;
    std::span<std::byte> reply_bytes(unsigned slot) const;
    // Hands the request to the daemon: its bytes in parts of the given sizes (as a kernel's
    // scatter list would be), and room for an answer in parts, none for a request without one.
    void submit(
        QueueId queue, unsigned slot, std::span<const std::size_t> parts,
        std::span<const std::size_t> room
    );
    // Waits for one finished request; its slot. ETIMEDOUT; ECONNRESET when the daemon went away.
    Result<unsigned> wait(QueueId queue);

    // Bytes that are no vhost-user message, for tests of what the daemon does then.
    Result<> send_garbage();

private:
    struct Queue {
        std::size_t descriptors = 0; // offsets into the memory
        std::size_t available = 0;
        std::size_t used = 0;
        std::uint16_t next_available = 0;
        std::uint16_t next_used = 0;
        Fd kick;
        Fd call;
    };

    Frontend() = default;
    Result<> map_memory();
    Result<> set_up();
    Result<> set_up_queue(QueueId id);
    Result<>
    request(std::uint32_t type, std::span<const std::byte> payload, int fd, std::uint64_t* answer);
    Result<> acknowledged(std::uint32_t type, std::span<const std::byte> payload, int fd = -1);
    Queue& queue(QueueId id) { return queues_[static_cast<std::size_t>(id)]; }

    Fd socket_;
    Fd memory_fd_;
    std::byte* memory_ = nullptr;
    bool acknowledges_ = false; // VHOST_USER_PROTOCOL_F_REPLY_ACK
    Offer offer_;
    std::array<Queue, 2> queues_;
};

} // namespace thaw::virtiofs
