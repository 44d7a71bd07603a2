// SPDX-License-Identifier: MIT
#pragma once

// Writes what comes in, in order, to a range of a descriptor: whole blocks of 4096 bytes, up to 256
// KiB at a time, from memory that O_DIRECT takes. The writing is done by a thread, as a disk may
// take its time; while one write is under way the next block fills.

#include "event/worker.hpp"
#include "failure.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace thaw::fetchd {

class TargetWriter {
public:
    static constexpr std::size_t kUnit = 4096;
    static constexpr std::size_t kBlock = 256 << 10;

    struct Events {
        std::function<void(std::uint64_t written)> written; // bytes so far
        std::function<void()> room;          // there is room again after a take() that had none
        std::function<void(Failure)> failed; // nothing more will be written
    };

    // `thread` outlives the writer. The writer may only be destroyed when is_idle(), and not from
    // inside an event.
    TargetWriter(Worker& thread, Fd target, std::uint64_t offset, Events events);
    ~TargetWriter();
    TargetWriter(const TargetWriter&) = delete;
    TargetWriter& operator=(const TargetWriter&) = delete;

    // All of `data`, or nothing: false when there is no room now.
    bool take(std::span<const std::byte> data);
    // Everything has come: the last bytes are written too, whatever their number.
    void finish();
    // Nothing more is written but what a thread has in hand.
    void give_up();

    std::uint64_t received() const { return received_; }
    std::uint64_t written() const { return written_; }
    bool is_idle() const { return !writing_; }

private:
    struct Block;
    void start_write();
    void on_written(std::size_t size, int errno_value);

    Worker& thread_;
    std::shared_ptr<Fd> target_;
    std::uint64_t offset_;
    Events events_;
    std::shared_ptr<Block> filling_;
    std::uint64_t received_ = 0;
    std::uint64_t written_ = 0;
    bool writing_ = false;
    bool finished_ = false;
    bool dead_ = false;
    bool wants_room_ = false;
};

} // namespace thaw::fetchd
