// SPDX-License-Identifier: MIT
#pragma once

// Where changed blocks lie: a memfd within a budget, and a file on disk. Thread-safe; retire() and
// what Slots says of points need the caller's gate.

#include "overlay/slots.hpp"
#include "overlay/stable_file.hpp"

#include <atomic>

namespace thaw::rootfs {

class Tier {
public:
    explicit Tier(std::uint32_t capacity) : slots_(capacity) {}
    Tier(const Tier&) = delete;
    Tier& operator=(const Tier&) = delete;
    virtual ~Tier() = default;

    // At least one slot and at most `want` adjacent ones. ENOSPC.
    virtual Result<SlotRun> take(std::uint32_t want) = 0;
    // Whole blocks into slots that were taken. Failure leaves them as they were, or in part.
    virtual Result<> write(SlotRun run, std::span<const std::byte> data) = 0;
    // Of the tier's file, from byte `offset` on.
    virtual Result<> read(std::uint64_t offset, std::span<std::byte> out) = 0;
    virtual int descriptor() const = 0;

    // Nothing points at these slots any more.
    void retire(SlotRun run);
    void pin() { slots_.pin(); }
    // Ends the point inside the gate; what it answers goes to reclaim() outside.
    std::vector<SlotRun> unpin() { return slots_.unpin(); }
    void reclaim(const std::vector<SlotRun>& runs);
    bool pinned(std::uint32_t slot) const { return slots_.pinned(slot); }
    std::uint32_t capacity() const { return slots_.capacity(); }
    std::uint64_t used() const { return std::uint64_t{slots_.used()} * kBlockSize; } // bytes

protected:
    virtual void empty(SlotRun run) = 0;
    Slots slots_;
};

class MemoryTier final : public Tier {
public:
    // `budget` bytes; pages come with the first write. ENOMEM, EMFILE.
    static Result<std::unique_ptr<MemoryTier>> create(std::uint64_t budget);
    MemoryTier(Fd memfd, std::uint32_t capacity) : Tier(capacity), memfd_(std::move(memfd)) {}

    Result<SlotRun> take(std::uint32_t want) override;
    Result<> write(SlotRun run, std::span<const std::byte> data) override;
    Result<> read(std::uint64_t offset, std::span<std::byte> out) override;
    int descriptor() const override { return memfd_.get(); }

private:
    void empty(SlotRun run) override;
    Fd memfd_;
};

class DiskTier final : public Tier {
public:
    // `limit` in bytes, 0: none but the file system's. The file may hold blocks already: adopt()
    // them before anything else.
    DiskTier(std::unique_ptr<StableFile> file, std::uint64_t limit);

    // False when a slot is taken twice or beyond the file. The file's size must have been read.
    Result<> load_size();
    bool adopt(SlotRun run) { return slots_.take_exactly(run); }

    // Room is reserved before it is promised: what the guest was told is written has its place.
    Result<SlotRun> take(std::uint32_t want) override;
    Result<> write(SlotRun run, std::span<const std::byte> data) override;
    Result<> read(std::uint64_t offset, std::span<std::byte> out) override;
    int descriptor() const override { return file_->descriptor(); }

    // fdatasync() if anything was written since the last one that worked.
    Result<> sync();
    // Off: the file keeps its size, and blocks that do not fit are refused with ENOSPC.
    void allow_growth(bool on) { growth_.store(on, std::memory_order_relaxed); }
    std::uint64_t written() const { return written_.load(std::memory_order_relaxed); } // bytes

private:
    void empty(SlotRun run) override;
    Result<> grow(std::uint32_t want);

    std::unique_ptr<StableFile> file_;
    std::uint32_t limit_; // slots
    std::mutex growing_;
    std::atomic<bool> growth_{true};
    std::atomic<bool> unsynced_{false};
    std::atomic<std::uint64_t> written_{0};
};

} // namespace thaw::rootfs
