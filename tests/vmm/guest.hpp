// SPDX-License-Identifier: MIT
#pragma once

#include "vcpu.hpp"

#include <condition_variable>
#include <deque>
#include <thread>

namespace thaw::standin {

/// The running guest: one thread per vCPU. All calls come from the API thread.
class Guest {
public:
    Guest(
        GuestMemory& memory, PageLedger& ledger, std::shared_ptr<Reference> image, bool map_over,
        unsigned default_vcpus
    );

    /// Starts the threads; they wait while the VM is paused. Fails when one is still running.
    Result<void> start(const GuestParameters& parameters);
    /// Ends the threads. A thread that is blocked in a page fault does not end: after `timeout_ms`
    /// an error names the page, and the guest stays as it is.
    Result<void> stop(unsigned timeout_ms);
    Result<void> pause(unsigned timeout_ms);
    void resume();

    bool paused() const { return paused_.load(); }
    /// The threads have done all they were told to.
    bool finished();
    const GuestParameters& parameters() const { return parameters_; }
    /// Counters of the present or last run.
    nlohmann::json report();

private:
    bool checkpoint();
    void wait_until(std::uint64_t due_ns);
    void vcpu_main(unsigned number, unsigned count);
    Result<bool> try_kvm(Vcpu& vcpu);
    Result<void> wait_quiet(std::unique_lock<std::mutex>& lock, unsigned timeout_ms, bool all_gone);
    nlohmann::json blocked_vcpus() const;

    GuestWorld world_;
    GuestParameters parameters_;
    unsigned default_vcpus_;
    std::deque<VcpuStats> stats_;
    std::vector<std::thread> threads_;

    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned live_ = 0;
    unsigned parked_ = 0;
    std::atomic<bool> paused_{true};
    std::atomic<bool> stopping_{false};
    std::string kvm_state_ = "off";
};

} // namespace thaw::standin
