// SPDX-License-Identifier: MIT
#pragma once

// What makes the writes of a durable overlay safe. Order: the blocks, synced; then the changes of
// the map that point to them, synced; then FLUSH is answered. A slot that a change made idle is
// taken for nothing else before that change is safe: until then the map on disk points to it.
//
// Thread-safe. Whoever comes while a commit runs waits for the next one, together with all others.

#include "overlay/journal.hpp"
#include "overlay/range_locks.hpp"
#include "overlay/tier.hpp"

#include <condition_variable>
#include <mutex>
#include <vector>

namespace thaw::rootfs {

class Commits {
public:
    // All must outlive the object.
    Commits(Journal journal, BlockMap& map, DiskTier& disk, Gate& gate)
        : journal_(std::move(journal)), map_(map), disk_(disk), gate_(gate) {}

    // A change of the map, after its blocks were written; inside the gate and the range's lock.
    void note(const MapRun& change);
    // Slots that a change before this made idle.
    void note_idle(SlotRun run);
    // Everything that was noted before is safe when it returns. Outside the gate. ENOSPC: there was
    // no room for the journal, nothing is lost, try again. EIO: a sync failed; what is on the disk
    // is not known any more, and every later call fails too.
    Result<> commit();

private:
    struct Batch {
        std::vector<MapRun> changes;
        std::vector<SlotRun> idle;
    };
    Batch take_batch();
    void put_back(Batch batch);
    Result<> commit_batch();
    Result<> write_batch(const Batch& batch);
    Result<> rewrite_log();
    void retire(const std::vector<SlotRun>& idle);

    Journal journal_;
    BlockMap& map_;
    DiskTier& disk_;
    Gate& gate_;

    std::mutex noting_;
    Batch noted_;

    std::mutex committing_;
    std::condition_variable committed_;
    bool running_ = false;
    std::uint64_t asked_ = 0;
    std::uint64_t done_ = 0;
    Result<> last_;
    bool broken_ = false; // only touched by whoever runs a commit
};

} // namespace thaw::rootfs
