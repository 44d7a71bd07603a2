// SPDX-License-Identifier: MIT
#pragma once

// A file to a URL, by PUT. A thread reads the file, so that its disk may take its time.

#include "job.hpp"

namespace thaw::fetchd {

class PutJob : public Job {
public:
    PutJob(Engine& engine, protocol::FetchMessage request, Report report);

private:
    struct Piece;
    Outcome<> begin() override;
    void abort() override;
    // As much time for every 4 MiB as a fetch of so many has.
    Microseconds time_limit() const override;

    int on_supply(std::span<std::byte> room);
    void on_piece(std::shared_ptr<Piece> piece);
    void on_end(CURLcode code);

    Report progress_;
    std::shared_ptr<Fd> source_;
    std::unique_ptr<Worker> reader_;
    std::unique_ptr<Transfer> transfer_;
    std::shared_ptr<Piece> piece_; // being sent
    std::size_t used_ = 0;         // bytes of it that were
    std::uint64_t read_ = 0;       // bytes asked of the thread, this try
    bool reading_ = false;
    std::optional<Failure> failed_;
};

} // namespace thaw::fetchd
