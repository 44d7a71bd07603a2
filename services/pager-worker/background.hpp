// SPDX-License-Identifier: MIT
#pragma once

// Everything a worker does that no fault asked for: replay of the working set, or a stretch of the
// memory file for images without one, and Complete. It yields to faults between steps, keeps to
// budget, rate and pressure limits, and stands still while the session is quiesced.

#include "bulk_mover.hpp"
#include "memory_feed.hpp"
#include "pace.hpp"
#include "pressure.hpp"
#include "protocol/worker_control.hpp"
#include "working_set_feed.hpp"
#include "working_set_loader.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace thaw::worker {

// What others read of the record is a figure, and orders nothing.
inline constexpr auto kRelaxed = std::memory_order_relaxed;

// Buffers for a mover, mapped on first use and given back.
class BulkBuffers {
public:
    BulkBuffers() = default;
    BulkBuffers(const BulkBuffers&) = delete;
    BulkBuffers& operator=(const BulkBuffers&) = delete;
    ~BulkBuffers();
    // ENOMEM. Four of `size` bytes.
    Result<std::span<std::byte>> map(std::uint64_t size);
    void unmap();
    std::span<std::byte> memory() const { return memory_; }

private:
    std::span<std::byte> memory_;
};

class Background {
public:
    struct Parts { // all outlive it
        protocol::SessionMemory& memory;
        const RegionMap& regions;
        PageSource& source;
        Ledger& ledger;
        RunInstaller& installer;
    };
    struct Hooks {
        BulkMover::Reader read; // token without class
        std::function<void()> release_buffers;
        std::function<void(const protocol::ReplayEndedMessage&, const std::string& why)>
            replay_ended;
        std::function<void()> populated; // every page is in
        std::function<void()> populate_failed;
    };
    Background(const Parts& parts, int working_set, const std::string& pressure_directory);
    void set_hooks(Hooks hooks) { hooks_ = std::move(hooks); }

    // Before the sandbox: chooses how the working set is read and maps its buffers. The span is
    // what the engine may register; empty when there is nothing to replay.
    std::span<std::byte> prepare();
    void set_registered(bool registered);

    // The broker's wishes have changed, or a new worker reads them for the first time.
    void attend();
    // One step when nothing else is to be done. `now`: CLOCK_MONOTONIC.
    void step(std::uint64_t now);
    void read_ended(std::uint64_t token, std::int64_t result);
    // When step() has something to do: 0 at once, kNever when only a read's end or a message can
    // change that.
    std::uint64_t next_deadline() const { return deadline_; }
    // Nothing is in flight.
    bool is_still() const;
    bool wants_quiet() const { return quiesce_; }

private:
    struct Job {
        std::unique_ptr<Feed> feed;
        std::unique_ptr<BulkMover> mover;
        Cause cause = Cause::Replay;
        // Why it goes no further. It ends once no read is in flight: reads write to its buffers.
        std::optional<SourceError> failed;
    };
    void begin();
    void begin_working_set();
    std::optional<Result<image::WorkingSetTable>> load_table();
    void begin_sequential();
    void begin_populate();
    bool is_image_cold() const;
    bool may_replay(std::uint64_t now);
    void run(std::uint64_t now);
    void advance(const BulkMover::Step& made, std::uint64_t now);
    void finish();
    bool hold_back(const BulkMover::Step& made, std::uint64_t now);
    void
    end_replay(protocol::ReplayState state, protocol::ReplayReason reason, const std::string& why);
    void end_populate();
    void set_replay(protocol::ReplayState state, protocol::ReplayReason reason);
    Result<std::unique_ptr<BulkMover>> make_mover(Feed& feed);

    Parts parts_;
    Hooks hooks_;
    protocol::SessionState& state_;
    int working_set_;
    Pressure pressure_;
    BulkBuffers buffers_;
    protocol::PrefetchPolicy policy_;
    bool populate_ = false;
    bool quiesce_ = false;
    bool replay_over_ = false;
    Job job_;
    std::unique_ptr<WorkingSetLoader> loader_; // until its table is used
    Pace pace_;
    std::uint64_t deadline_ = 0;
    std::uint64_t next_look_ns_ = 0; // at the pressure
    bool under_pressure_ = false;
    unsigned busy_ = 0; // steps in a row that met EAGAIN
    unsigned populate_rounds_ = 0;
};

} // namespace thaw::worker
