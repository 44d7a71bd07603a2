// SPDX-License-Identifier: MIT

#include "frontend.hpp"

#include "core/file.hpp"
#include "core/scm.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace thaw::virtiofs {

namespace {

// Numbers of the vhost-user protocol; the kernel has no header for them.
enum Message : std::uint32_t {
    kGetFeatures = 1,
    kSetFeatures = 2,
    kSetOwner = 3,
    kSetMemoryTable = 5,
    kSetQueueSize = 8,
    kSetQueueAddresses = 9,
    kSetQueueBase = 10,
    kSetQueueKick = 12,
    kSetQueueCall = 13,
    kGetProtocolFeatures = 15,
    kSetProtocolFeatures = 16,
    kGetQueueCount = 17,
    kSetQueueEnabled = 18,
};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kNeedReply = 1U << 3;
constexpr std::uint64_t kFeatureProtocol = 1ULL << 30;
constexpr std::uint64_t kFeatureVersion1 = 1ULL << 32;
constexpr std::uint64_t kProtocolQueueCount = 1ULL << 0;
constexpr std::uint64_t kProtocolReplyAck = 1ULL << 3;

struct Header {
    std::uint32_t type;
    std::uint32_t flags;
    std::uint32_t size;
};

struct MemoryTable {
    std::uint32_t regions;
    std::uint32_t padding;
    std::uint64_t guest_address;
    std::uint64_t size;
    std::uint64_t user_address;
    std::uint64_t offset;
};

struct QueueState {
    std::uint32_t index;
    std::uint32_t number;
};

struct QueueAddresses {
    std::uint32_t index;
    std::uint32_t flags;
    std::uint64_t descriptors;
    std::uint64_t used;
    std::uint64_t available;
    std::uint64_t log;
};

// Split virtqueues (virtio 1.2, 2.7); the kernel's header is not made for C++.
struct Descriptor {
    std::uint64_t address;
    std::uint32_t size;
    std::uint16_t flags;
    std::uint16_t next;
};
struct UsedElement {
    std::uint32_t id;
    std::uint32_t size;
};
constexpr std::uint16_t kDescriptorNext = 1;
constexpr std::uint16_t kDescriptorWrite = 2;

// Layout of the memory: the queues, then the slots. Six descriptors belong to each slot.
constexpr unsigned kSlotDescriptors = 6;
constexpr std::size_t kQueueSize = 128; // a power of two, at least kSlots * kSlotDescriptors
constexpr std::size_t kQueueBytes = 0x4000;
constexpr std::size_t kQueuesAt = 0x1000;
constexpr std::size_t kSlotsAt = 0x10000;
constexpr std::size_t kMemory = kSlotsAt + Frontend::kSlots * 2 * Frontend::kSlotBytes;
static_assert(Frontend::kSlots * kSlotDescriptors <= kQueueSize);
static_assert(kQueuesAt + 2 * kQueueBytes <= kSlotsAt);

// The rings are shared with another process: plain loads and stores of aligned words, ordered by
// fences.
std::uint16_t load16(const std::byte* at) {
    return __atomic_load_n(reinterpret_cast<const std::uint16_t*>(at), __ATOMIC_ACQUIRE);
}
void store16(std::byte* at, std::uint16_t value) {
    __atomic_store_n(reinterpret_cast<std::uint16_t*>(at), value, __ATOMIC_RELEASE);
}

Result<> receive_exact(int socket, std::span<std::byte> into) {
    while (!into.empty()) {
        pollfd waiting{socket, POLLIN, 0};
        const int r = poll(&waiting, 1, static_cast<int>(Frontend::kPatience / kUsecPerMsec));
        if (r == 0) return fail(ETIMEDOUT, "the daemon does not answer");
        const auto n = recv(socket, into.data(), into.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, "receive from the daemon");
        if (n == 0) return fail(ECONNRESET, "the daemon hung up");
        into = into.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

} // namespace

Result<Frontend> Frontend::connect(const std::string& socket) {
    Frontend frontend;
    THAW_TRY(frontend.socket_, connect_unix(socket, SOCK_STREAM, false));
    THAW_CHECK(frontend.map_memory());
    THAW_CHECK(frontend.set_up());
    return frontend;
}

Frontend::Frontend(Frontend&& other) noexcept
    : socket_(std::move(other.socket_)), memory_fd_(std::move(other.memory_fd_)),
      memory_(std::exchange(other.memory_, nullptr)), acknowledges_(other.acknowledges_),
      offer_(other.offer_), queues_(std::move(other.queues_)) {}

Frontend::~Frontend() {
    if (memory_ != nullptr) munmap(memory_, kMemory);
}

Result<> Frontend::map_memory() {
    memory_fd_.reset(memfd_create("guest-memory", MFD_CLOEXEC));
    if (!memory_fd_) return fail_errno(errno, "memfd_create");
    if (ftruncate(memory_fd_.get(), kMemory) < 0) return fail_errno(errno, "ftruncate");
    void* at = mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd_.get(), 0);
    if (at == MAP_FAILED) return fail_errno(errno, "mmap");
    memory_ = static_cast<std::byte*>(at);
    return {};
}

Result<> Frontend::request(
    std::uint32_t type, std::span<const std::byte> payload, int fd, std::uint64_t* answer
) {
    const bool acknowledge = answer == nullptr && acknowledges_;
    const Header header{
        type, kVersion | (acknowledge ? kNeedReply : 0), static_cast<std::uint32_t>(payload.size())
    };
    std::vector<std::byte> message(sizeof header + payload.size());
    std::memcpy(message.data(), &header, sizeof header);
    if (!payload.empty())
        std::memcpy(message.data() + sizeof header, payload.data(), payload.size());
    const auto fds = fd >= 0 ? std::span<const int>(&fd, 1) : std::span<const int>();
    THAW_TRY(const auto sent, send_message(socket_.get(), message, fds));
    if (sent != message.size()) return fail(EIO, "message {} was sent in part", type);
    if (answer == nullptr && !acknowledge) return {};
    Header reply{};
    THAW_CHECK(receive_exact(socket_.get(), std::as_writable_bytes(std::span(&reply, 1))));
    std::uint64_t value = 0;
    if (reply.type != type || reply.size != sizeof value)
        return fail(
            EBADMSG, "message {} was answered with {} of {} bytes", type, reply.type, reply.size
        );
    THAW_CHECK(receive_exact(socket_.get(), std::as_writable_bytes(std::span(&value, 1))));
    if (acknowledge && value != 0) return fail(EPROTO, "the daemon refused message {}", type);
    if (answer != nullptr) *answer = value;
    return {};
}

Result<> Frontend::acknowledged(std::uint32_t type, std::span<const std::byte> payload, int fd) {
    return request(type, payload, fd, nullptr);
}

Result<> Frontend::set_up() {
    THAW_CHECK(request(kGetFeatures, {}, -1, &offer_.features));
    THAW_CHECK(request(kGetProtocolFeatures, {}, -1, &offer_.protocol_features));
    const std::uint64_t chosen =
        offer_.protocol_features & (kProtocolReplyAck | kProtocolQueueCount);
    THAW_CHECK(acknowledged(kSetProtocolFeatures, bytes_of(chosen)));
    acknowledges_ = (chosen & kProtocolReplyAck) != 0;
    offer_.queues = queues_.size();
    if ((chosen & kProtocolQueueCount) != 0)
        THAW_CHECK(request(kGetQueueCount, {}, -1, &offer_.queues));
    THAW_CHECK(acknowledged(kSetOwner, {}));
    const std::uint64_t features = offer_.features & (kFeatureVersion1 | kFeatureProtocol);
    THAW_CHECK(acknowledged(kSetFeatures, bytes_of(features)));
    // The only region: guest address 0 is the start of the memfd.
    const MemoryTable table{1, 0, 0, kMemory, reinterpret_cast<std::uint64_t>(memory_), 0};
    THAW_CHECK(acknowledged(kSetMemoryTable, bytes_of(table), memory_fd_.get()));
    THAW_CHECK(set_up_queue(QueueId::HighPriority));
    return set_up_queue(QueueId::Request);
}

Result<> Frontend::set_up_queue(QueueId id) {
    auto& ring = queue(id);
    const auto index = static_cast<std::uint32_t>(id);
    ring.descriptors = kQueuesAt + index * kQueueBytes;
    ring.available = ring.descriptors + kQueueSize * sizeof(Descriptor);
    ring.used = ring.descriptors + kQueueBytes / 2;
    ring.kick.reset(eventfd(0, EFD_CLOEXEC));
    ring.call.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!ring.kick || !ring.call) return fail_errno(errno, "eventfd");
    const auto base = reinterpret_cast<std::uint64_t>(memory_);
    const QueueAddresses addresses{
        index, 0, base + ring.descriptors, base + ring.used, base + ring.available, 0
    };
    const std::uint64_t number = index;
    THAW_CHECK(acknowledged(kSetQueueSize, bytes_of(QueueState{index, kQueueSize})));
    THAW_CHECK(acknowledged(kSetQueueBase, bytes_of(QueueState{index, 0})));
    THAW_CHECK(acknowledged(kSetQueueAddresses, bytes_of(addresses)));
    THAW_CHECK(acknowledged(kSetQueueKick, bytes_of(number), ring.kick.get()));
    THAW_CHECK(acknowledged(kSetQueueCall, bytes_of(number), ring.call.get()));
    return acknowledged(kSetQueueEnabled, bytes_of(QueueState{index, 1}));
}

std::span<std::byte> Frontend::request_bytes(unsigned slot) const {
    return {memory_ + kSlotsAt + 2 * slot * kSlotBytes, kSlotBytes};
}

std::span<std::byte> Frontend::reply_bytes(unsigned slot) const {
    return {memory_ + kSlotsAt + (2 * slot + 1) * kSlotBytes, kSlotBytes};
}

void Frontend::submit(
    QueueId id, unsigned slot, std::span<const std::size_t> parts, std::span<const std::size_t> room
) {
    THAW_INVARIANT(parts.size() + room.size() <= kSlotDescriptors);
    auto& ring = queue(id);
    const auto first = slot * kSlotDescriptors;
    const auto total = parts.size() + room.size();
    auto* table = reinterpret_cast<Descriptor*>(memory_ + ring.descriptors);
    std::size_t index = 0;
    const auto add = [&](std::span<std::byte> area, std::span<const std::size_t> sizes, bool out) {
        std::size_t offset = 0;
        for (const auto size : sizes) {
            THAW_INVARIANT(offset + size <= area.size());
            const bool last = index + 1 == total;
            table[first + index] = {
                .address = static_cast<std::uint64_t>(area.data() - memory_) + offset,
                .size = static_cast<std::uint32_t>(size),
                .flags = static_cast<std::uint16_t>(
                    (out ? kDescriptorWrite : 0) | (last ? 0 : kDescriptorNext)
                ),
                .next = static_cast<std::uint16_t>(last ? 0 : first + index + 1),
            };
            offset += size;
            ++index;
        }
    };
    add(request_bytes(slot), parts, false);
    add(reply_bytes(slot), room, true);
    auto* available = memory_ + ring.available;
    const auto place = ring.next_available % kQueueSize;
    store16(available + 4 + 2 * place, static_cast<std::uint16_t>(first));
    store16(available + 2, ++ring.next_available);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    (void)eventfd_write(ring.kick.get(), 1);
}

Result<unsigned> Frontend::wait(QueueId id) {
    auto& ring = queue(id);
    const auto* used = memory_ + ring.used;
    const auto deadline = now_monotonic() + kPatience;
    while (load16(used + 2) == ring.next_used) {
        pollfd waiting[] = {{ring.call.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
        if (now_monotonic() > deadline) return fail(ETIMEDOUT, "the daemon does not answer");
        if (poll(waiting, 2, 1000) < 0 && errno != EINTR) return fail_errno(errno, "poll");
        eventfd_t count = 0;
        if ((waiting[0].revents & POLLIN) != 0) (void)eventfd_read(ring.call.get(), &count);
        // What was answered before the end still counts.
        if (waiting[1].revents != 0 && load16(used + 2) == ring.next_used)
            return fail(ECONNRESET, "the daemon hung up");
    }
    const auto* element =
        reinterpret_cast<const UsedElement*>(used + 4) + ring.next_used % kQueueSize;
    const auto slot = element->id / kSlotDescriptors;
    ++ring.next_used;
    if (slot >= kSlots) return fail(EBADMSG, "the daemon finished descriptor {}", element->id);
    return slot;
}

Result<> Frontend::send_garbage() {
    const std::string junk(64, '\xff');
    return write_all(socket_.get(), junk);
}

} // namespace thaw::virtiofs
