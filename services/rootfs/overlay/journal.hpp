// SPDX-License-Identifier: MIT
#pragma once

// The map of a durable overlay on disk: a log of changes in one of two files. Each record is one
// write, synced before anybody is told; the other file takes a fresh log with the whole map when
// the first has grown long, and counts from the moment its header is there.
//
// At most one write is unsynced at any time, so only the last record can be torn. A bad record with
// a good one behind it is therefore damage and refused; a bad one at the end is a write that nobody
// was told of. Every block of 4096 bytes is written once or with the same content, so a torn write
// never harms its neighbour.
//
// Not thread-safe.

#include "overlay/block_map.hpp"
#include "overlay/stable_file.hpp"

#include <array>
#include <functional>

namespace thaw::rootfs {

// What an overlay belongs to.
struct JournalIdentity {
    std::uint64_t disk_size = 0; // bytes
    std::uint64_t base_tag = 0;
};

class Journal {
public:
    using Files = std::array<std::unique_ptr<StableFile>, 2>;

    // Reads the log and hands each change to `apply` in its order, which may refuse. Without a log
    // an empty one is begun, synced when it returns: only where `fresh` says that no block was ever
    // stored. EBADMSG: damaged. ESTALE: of another disk or base. EPROTONOSUPPORT: of a newer
    // version.
    static Result<Journal> open(
        Files files, JournalIdentity identity, bool fresh,
        const std::function<Result<>(const MapRun&)>& apply
    );

    // Room for the next append() of as many changes. ENOSPC; nothing has happened then.
    Result<> reserve(std::size_t changes);
    // Safe when it returns. After a failure nothing is known of the disk: don't go on.
    Result<> append(std::span<const MapRun> changes);

    // Is the log so long that the map alone would be much shorter?
    bool wants_rewrite() const { return log_.tail > rewrite_at_; }
    // Starts anew with the whole map, of which every block is safe already. False: there was no
    // room for it, the old log goes on. After an error nothing is known of the disk: don't go on.
    Result<bool> rewrite(std::span<const MapRun> map);

private:
    Journal(Files files, JournalIdentity identity)
        : files_(std::move(files)), identity_(identity) {}
    struct Log {
        std::uint64_t records = 0;
        std::uint64_t tail = kBlockSize;
    };
    Result<Log> write_map(std::size_t index, std::uint64_t generation, std::span<const MapRun> map);
    Result<> begin(std::size_t index, std::uint64_t generation, Log log);
    Result<> replay(std::uint64_t records, const std::function<Result<>(const MapRun&)>& apply);
    static Result<> write_records(
        StableFile& file, std::uint64_t generation, Log& log, std::span<const MapRun> changes
    );
    StableFile& current() { return *files_[current_]; }

    Files files_;
    JournalIdentity identity_;
    std::size_t current_ = 0;
    std::uint64_t generation_ = 0;
    Log log_; // `records` is the next one's sequence, `tail` where it goes
    std::uint64_t rewrite_at_ = 0;
};

} // namespace thaw::rootfs
