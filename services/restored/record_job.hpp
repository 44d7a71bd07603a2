// SPDX-License-Identifier: MIT
#pragma once

// Records what a VM of an image touches first: restores it as a recording VM with prefetch off,
// waits until the fault rate has settled, takes the recording from the pager, stops the VM, does so
// `runs` times, and writes what all runs have in common beside the image. The VMs are restored and
// stopped by jobs of their own; a crash of the manager leaves a VM marked as a recording, which the
// next one stops.

#include "event/background.hpp"
#include "job.hpp"
#include "settle.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::restore {

inline constexpr unsigned kMostRecordRuns = 16;

struct RecordRequest {
    unsigned runs = 1;
    Microseconds limit = 0;    // of each run
    bool allow_writes = false; // also when the VM may write to a drive that outlives it
};

class RecordJob : public Job {
public:
    RecordJob(
        const Context& context, const JobRecord& record, std::string vm, std::string image,
        RecordRequest request
    );
    void start() override;
    Result<> cancel() override;

private:
    void on_opened(const Result<image::Manifest>& opened);
    // ---- one run: each part leads to the next one
    void begin_run();
    void on_restored();
    void sample();
    void on_sample(Result<std::uint64_t> faults);
    void take(unsigned attempts);
    void end_run(std::optional<Failure> failure);
    void stop_vm();
    void on_stopped();
    // ---- after the last one
    void reserve();
    void write();
    void on_written(Result<> written);
    void conclude(const Failure& failure);
    void arm(Microseconds delay, std::function<void()> then);
    void show(std::string_view what);

    RecordRequest request_;
    unsigned run_ = 0; // counts from 1
    std::uint64_t page_size_ = 0;
    bool canceled_ = false;
    std::optional<Failure> failure_;
    std::optional<SettleDetector> detector_;
    struct Recording {
        Fd log;
        bool settled = false;
        Microseconds duration = 0;
    };
    std::vector<Recording> recordings_;
    Microseconds began_ = 0;
    Job* child_ = nullptr; // the manager's, which keeps it longer than we need it
    EventSource timer_;
    DiskHandle opening_;
    PagerHandle pager_;
    guard::GuardHandle guard_;
    std::optional<guard::Admission> room_;
    struct Written;
    std::shared_ptr<Written> written_;
    std::unique_ptr<BackgroundTask> writing_;
    metrics::DirtyThrottle::Writing writes_;
};

} // namespace thaw::restore
