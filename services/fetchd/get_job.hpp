// SPDX-License-Identifier: MIT
#pragma once

// A range of a URL into a target; and the look at what is behind a URL.

#include "job.hpp"

namespace thaw::fetchd {

class GetJob : public Job {
public:
    GetJob(Engine& engine, protocol::FetchMessage request, Report report);

private:
    Outcome<> begin() override;
    void abort() override { transfer_.reset(); }
    bool is_quiet() const override { return writer_.is_idle(); }
    bool waits_for_source() const override {
        return writer_.received() < request_.length && !full_;
    }
    std::uint64_t landed() const override { return writer_.written(); }

    Transfer::Take on_body(std::span<const std::byte> data);
    void on_end(CURLcode code);
    Outcome<> judge(CURLcode code);
    void on_written(std::uint64_t written);

    Report progress_;
    TargetWriter writer_;
    std::unique_ptr<Transfer> transfer_;
    std::uint64_t first_ = 0; // of this try
    bool checked_ = false;    // the answer's head is what we want
    bool full_ = false;       // the target is slower than the source
    std::optional<Failure> refused_;
};

class ProbeJob : public Job {
public:
    using Job::Job;

private:
    Outcome<> begin() override;
    void abort() override { transfer_.reset(); }
    void on_end(CURLcode code);
    std::unique_ptr<Transfer> transfer_;
    bool too_much_ = false;
};

} // namespace thaw::fetchd
