// SPDX-License-Identifier: MIT
#pragma once

// A range of a file on a slow file system into a target. A thread reads; one that hangs in a server
// that is gone is left to itself, with nothing in its hands but its own buffer.

#include "job.hpp"

namespace thaw::fetchd {

class FileJob : public Job {
public:
    FileJob(Engine& engine, protocol::FetchMessage request, Report report);

private:
    struct Piece;
    Outcome<> begin() override;
    void abort() override;
    bool is_quiet() const override { return writer_.is_idle(); }
    bool waits_for_source() const override { return reader_ && !held_; }
    std::uint64_t landed() const override { return writer_.written(); }

    void read_next();
    void on_piece(std::shared_ptr<Piece> piece);
    void hand_on();

    Report progress_;
    TargetWriter writer_;
    std::shared_ptr<Fd> source_;
    std::unique_ptr<Worker> reader_;
    std::shared_ptr<Piece> held_; // read, and waiting for room
};

} // namespace thaw::fetchd
