// SPDX-License-Identifier: MIT
#pragma once

// What the overlay of a VM's root file system and its tools say to each other: one request and its
// answer at a time over /run/thaw/rootfs/VM/control (SOCK_SEQPACKET, one message per datagram,
// descriptors in SCM_RIGHTS). Both sides treat what they receive as hostile: sizes, type, version,
// counts and the number of descriptors are checked before anything is used.
//
//   tool -> overlay
//     Status                     answered by StatusReply
//     Point                      answered by PointReply; Busy while another connection holds one
//   overlay -> tool
//     StatusReply                JSON, see format_rootfs_status()
//     PointReply                 geometry, base, and: table memfd, [memory], [disk]
//     Failed                     the request was not done; the connection goes on
//
// A point is the disk as it was when the request was answered: what is written later never changes
// what the tool reads through the descriptors. It is held until the connection is closed, also by
// the death of the tool. The overlay opens memory and disk O_RDONLY for the tool; the table is
// sealed, so that what was checked is what is used.

#include "core/error.hpp"
#include "core/fd.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::protocol {

inline constexpr std::uint32_t kRootfsMagic = 0x4652'4854; // "THRF"
inline constexpr std::uint16_t kRootfsVersion = 1;
inline constexpr std::size_t kRootfsMaxMessage = 16384; // bytes
inline constexpr std::size_t kRootfsMaxFds = 3;
inline constexpr std::uint32_t kMinBlockSize = 512; // and powers of two up to
inline constexpr std::uint32_t kMaxBlockSize = 2 << 20;
// Of one disk. Bounds what a hostile answer can make a tool allocate: a table is as long as its
// memfd, and no longer than kMaxPointEntries.
inline constexpr std::uint64_t kMaxDiskSize = std::uint64_t{1} << 50;
inline constexpr std::uint64_t kMaxPointEntries = std::uint64_t{1} << 26;

namespace rootfs_error {
// Another connection holds a point.
inline constexpr std::string_view kBusy = "org.thaw.rootfs1.Error.Busy";
// The overlay could not take a point (no memory, no space).
inline constexpr std::string_view kPointFailed = "org.thaw.rootfs1.Error.PointFailed";
// A request that the overlay does not know.
inline constexpr std::string_view kBadRequest = "org.thaw.rootfs1.Error.BadRequest";
// No overlay of that VM is running.
inline constexpr std::string_view kNotRunning = "org.thaw.rootfs1.Error.NotRunning";
} // namespace rootfs_error

enum class RootfsType : std::uint16_t {
    Status = 1,
    Point = 2,
    StatusReply = 16,
    PointReply = 17,
    Failed = 18,
};

// What lies below an overlay, as far as its server knows without reading it.
enum class BaseKind : std::uint32_t {
    None = 0, // nothing: what was never written reads as zeros
    File = 1, // a file on this host; id from base_identity_of()
    // The root file system of an image that is not on this host; id is XXH3-128 over all of it.
    Content = 2,
};
struct BaseIdentity {
    BaseKind kind = BaseKind::None;
    std::uint64_t size = 0; // bytes; what the overlay has beyond them reads as zeros
    std::array<std::uint8_t, 16> id{};
    bool operator==(const BaseIdentity&) const = default;
};
// Of an open file: its device, inode, size and time of change. Not portable to another host.
Result<BaseIdentity> base_identity_of(int fd);

// One run of blocks that differ from the base. In the table: sorted by first_block, none twice.
enum class PointKind : std::uint32_t { Memory = 1, Disk = 2, Zero = 3 };
struct PointEntry {
    std::uint64_t first_block = 0;
    std::uint32_t count = 0;
    PointKind kind = PointKind::Zero;
    // Where the first block lies in the memory or disk file, a multiple of the block size; the
    // others follow it. 0 for Zero.
    std::uint64_t file_offset = 0;
    bool operator==(const PointEntry&) const = default;
};
static_assert(sizeof(PointEntry) == 24);

// The last block of a disk that is no multiple of the block size is stored whole; what lies beyond
// the size means nothing.
struct DiskGeometry {
    std::uint64_t size = 0; // bytes, a multiple of 512
    std::uint32_t block_size = 4096;
    std::uint64_t blocks() const { return (size + block_size - 1) / block_size; }
    bool operator==(const DiskGeometry&) const = default;
};
// EBADMSG names what is out of range.
Result<> check_geometry(const DiskGeometry& geometry);
// Order, ranges, kinds and alignment of a table. EBADMSG.
Result<> check_point_table(std::span<const PointEntry> table, const DiskGeometry& geometry);

struct RootfsStatus {
    std::string name; // the VM's
    DiskGeometry geometry;
    BaseIdentity base;
    std::string base_path;  // empty: no file of this host
    std::string base_image; // then: whose root file system it is
    std::uint64_t dirty_blocks = 0;
    std::uint64_t dirty_bytes = 0; // of dirty blocks, wherever they lie
    std::uint64_t zero_blocks = 0;
    std::uint64_t memory_used = 0; // bytes, as are the next three
    std::uint64_t memory_budget = 0;
    std::uint64_t disk_used = 0;
    std::uint64_t disk_budget = 0; // 0: none but the file system's
    bool durable = false;
    bool point_held = false;
    std::uint64_t epoch = 0; // points taken so far
    std::uint64_t clients = 0;
    std::uint64_t reads = 0; // requests, bytes
    std::uint64_t read_bytes = 0;
    std::uint64_t writes = 0;
    std::uint64_t written_bytes = 0;
    std::uint64_t flushes = 0;
    std::uint64_t failed_reads = 0;
    std::uint64_t failed_writes = 0;
    std::uint64_t spilled_bytes = 0; // written to the disk tier since the start
};
std::string format_rootfs_status(const RootfsStatus& status);
// Members that are missing are 0 (an older server), unknown ones are passed over. EBADMSG.
Result<RootfsStatus> parse_rootfs_status(std::string_view json);

// A message ready for send_message(); `fds` are borrowed.
struct RootfsMessage {
    std::vector<std::byte> data;
    std::vector<int> fds;
};

// --- the overlay's side ---
// Status or Point. Descriptors that came along are closed, EBADMSG.
Result<RootfsType> decode_rootfs_request(std::span<const std::byte> data, std::vector<Fd> fds);
RootfsMessage encode_status_reply(const RootfsStatus& status);
// `memory` and `disk` are -1 when no entry is of their kind. Descriptors are borrowed until sent.
struct PointView {
    DiskGeometry geometry;
    BaseIdentity base;
    std::uint64_t epoch = 0;
    std::uint64_t entries = 0;
    int table = -1; // from make_point_table()
    int memory = -1;
    int disk = -1;
};
RootfsMessage encode_point_reply(const PointView& point);
// `name` is one of rootfs_error.
RootfsMessage encode_rootfs_failure(std::string_view name, int errno_value, std::string_view text);
// A memfd with the entries, sealed against every change.
Result<Fd> make_point_table(std::span<const PointEntry> entries);
// One message to / from a connection. send: EAGAIN when the socket is full. receive: EAGAIN when
// nothing is there, ECONNRESET when the tool is gone, EBADMSG for a bad one.
Result<> send_rootfs(int socket, const RootfsMessage& message);
Result<RootfsType> receive_rootfs_request(int socket);

// --- the tool's side (see rootfs_client.hpp) ---
struct PointReply {
    DiskGeometry geometry;
    BaseIdentity base;
    std::uint64_t epoch = 0;
    std::vector<PointEntry> table; // checked
    Fd memory;                     // invalid when no entry needs it
    Fd disk;
};
RootfsMessage encode_rootfs_request(RootfsType request);
// A Failed message becomes the Error with its name, errno and text. Takes the descriptors over;
// EBADMSG says what is wrong, EPROTONOSUPPORT another version.
Result<RootfsStatus> decode_status_reply(std::span<const std::byte> data, std::vector<Fd> fds);
Result<PointReply> decode_point_reply(std::span<const std::byte> data, std::vector<Fd> fds);

} // namespace thaw::protocol
