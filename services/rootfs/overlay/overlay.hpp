// SPDX-License-Identifier: MIT
#pragma once

// A disk that a VM may write, over a base that nobody writes: copy on write by blocks of 4 KiB.
// Changed blocks lie in memory within a budget, beyond it in a file; blocks of zeros lie nowhere.
//
// Ephemeral: all of it goes with the process. Durable: everything lies in the file, and what was
// flushed (or written with FUA) survives any crash; what was not is, block by block, either there
// or not, as on any disk.
//
// Thread-safe throughout. Requests that overlap are done one after the other. An Error's code() is
// what the guest is told: ENOSPC, ENOMEM, EIO.

#include "overlay/base_image.hpp"
#include "overlay/commits.hpp"

#include <functional>
#include <optional>

namespace thaw::rootfs {

class Overlay;

// The blocks as they were at one moment; they stay so, whatever is written, until it is destroyed.
class Point {
public:
    Point(Point&& other) noexcept
        : overlay_(std::exchange(other.overlay_, nullptr)), runs_(std::move(other.runs_)),
          number_(other.number_) {}
    Point& operator=(Point&&) = delete;
    Point(const Point&) = delete;
    Point& operator=(const Point&) = delete;
    ~Point();

    const std::vector<MapRun>& runs() const { return runs_; }
    std::uint64_t number() const { return number_; }

private:
    friend class Overlay;
    Point(Overlay& overlay, std::vector<MapRun> runs, std::uint64_t number)
        : overlay_(&overlay), runs_(std::move(runs)), number_(number) {}
    Overlay* overlay_;
    std::vector<MapRun> runs_;
    std::uint64_t number_ = 0;
};

struct OverlayStatus {
    std::uint64_t dirty_blocks = 0;
    std::uint64_t zero_blocks = 0;
    std::uint64_t memory_used = 0; // bytes
    std::uint64_t disk_used = 0;
    std::uint64_t spilled = 0; // bytes written to the disk tier since the start
    std::uint64_t points = 0;  // taken since the start
    bool point_held = false;
    std::uint64_t reads = 0;
    std::uint64_t read_bytes = 0;
    std::uint64_t writes = 0; // and zeroes, and trims
    std::uint64_t written_bytes = 0;
    std::uint64_t flushes = 0;
    std::uint64_t failed_reads = 0;
    std::uint64_t failed_writes = 0; // and flushes
};

class Overlay {
public:
    struct Parts {
        std::uint64_t size = 0; // bytes; beyond the base's it reads as zeros
        std::unique_ptr<BaseImage> base;
        std::unique_ptr<MemoryTier> memory; // none in a durable overlay
        std::unique_ptr<DiskTier> disk;     // none: memory only
        Journal::Files journal;             // both or none: durable, and then `disk` is there
    };
    // Replays the journal of a durable one (errors: Journal::open()). EINVAL: parts don't fit.
    static Result<std::unique_ptr<Overlay>> open(Parts parts);
    Overlay(const Overlay&) = delete;
    Overlay& operator=(const Overlay&) = delete;
    // Commits what is left of a durable one, as far as that works. No point may be held.
    ~Overlay();

    std::uint64_t size() const { return size_; }
    const BaseImage& base() const { return *base_; }
    bool durable() const { return commits_.has_value(); }

    // Ranges must lie within size(); EINVAL.
    Result<> read(std::uint64_t offset, std::span<std::byte> out);
    Result<> write(std::uint64_t offset, std::span<const std::byte> data, bool fua);
    // The range reads as zeros afterwards. Whole blocks of it take no room.
    Result<> zero(std::uint64_t offset, std::uint64_t length, bool fua);
    // The same for whole blocks; what is left of others is kept.
    Result<> trim(std::uint64_t offset, std::uint64_t length, bool fua);
    Result<> flush();

    // In order, without gaps, each as long as it can be: what `offset` and the following are.
    struct Extent {
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
        bool zero = false; // reads as zeros and takes no room
    };
    // Until the range is covered or `take` answers false.
    void extents(
        std::uint64_t offset, std::uint64_t length, const std::function<bool(const Extent&)>& take
    );

    // EBUSY while another one is held.
    Result<Point> take_point();
    // The files that a point's runs of a kind lie in, slot after slot; -1: there is none.
    int descriptor(Kind kind) const;

    // May the disk tier take more room of its file system?
    void allow_growth(bool on);
    OverlayStatus status() const;

private:
    friend class Point;
    explicit Overlay(Parts parts);
    Result<> start(Journal::Files files);
    Result<> check_range(std::uint64_t offset, std::uint64_t length) const;

    // All need the range's lock.
    Result<> read_blocks(std::uint64_t offset, std::span<std::byte> out);
    Result<> read_run(Location location, std::uint64_t offset, std::span<std::byte> out);
    Result<> read_base(std::uint64_t offset, std::span<std::byte> out);
    Result<> write_part(std::uint64_t offset, std::span<const std::byte> data);
    Result<> write_blocks(std::uint64_t block, std::span<const std::byte> data);
    Result<std::uint32_t> write_some(std::uint64_t block, std::span<const std::byte> data);
    Result<std::uint32_t> write_in_place(Location location, std::span<const std::byte> data);
    Result<std::uint32_t> write_elsewhere(std::uint64_t block, std::span<const std::byte> data);
    void zero_blocks(std::uint64_t block, std::uint64_t count);
    // `parts`: also of blocks that the range does not cover.
    Result<> zero_range(std::uint64_t offset, std::uint64_t length, bool parts);
    Result<> zero_pieces(std::uint64_t offset, std::uint64_t length, bool parts, bool fua);

    void change(std::uint64_t block, std::uint32_t count, Location location);
    bool writable(Location location) const;
    Tier& tier(Kind kind) const;
    void end_point();
    // Makes a change safe if it is to be, and counts it if it failed.
    Result<> finish(Result<> done, bool commit);

    std::uint64_t size_;
    std::unique_ptr<BaseImage> base_;
    std::unique_ptr<MemoryTier> memory_;
    std::unique_ptr<DiskTier> disk_;
    BlockMap map_;
    RangeLocks locks_;
    mutable Gate gate_;
    std::optional<Commits> commits_;
    std::atomic<bool> point_held_{false};

    struct Counters {
        std::atomic<std::uint64_t> points{0};
        std::atomic<std::uint64_t> reads{0};
        std::atomic<std::uint64_t> read_bytes{0};
        std::atomic<std::uint64_t> writes{0};
        std::atomic<std::uint64_t> written_bytes{0};
        std::atomic<std::uint64_t> flushes{0};
        std::atomic<std::uint64_t> failed_reads{0};
        std::atomic<std::uint64_t> failed_writes{0};
    };
    Counters counters_;
};

} // namespace thaw::rootfs
