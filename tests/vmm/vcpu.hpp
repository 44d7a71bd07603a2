// SPDX-License-Identifier: MIT
#pragma once

#include "guest_memory.hpp"
#include "guest_parameters.hpp"
#include "latency.hpp"
#include "page_ledger.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace thaw::standin {

class KvmGuest;

/// What all vCPUs of a guest share. The threads keep it alive.
struct GuestWorld {
    GuestMemory& memory;
    PageLedger& ledger;
    std::shared_ptr<Reference> image; ///< null: contents cannot be checked while running
    bool map_over;                    ///< balloon of a VMM before 1.11

    std::mutex mutex{};
    std::vector<nlohmann::json> errors{}; ///< the first few
    std::atomic<std::uint64_t> error_count{0};

    void add_error(nlohmann::json error);
};

/// Counters of one vCPU: written by its thread, read by the API thread.
struct VcpuStats {
    std::atomic<std::uint64_t> reads{0}, writes{0}, first_touches{0}, drops{0}, dropped_pages{0};
    std::atomic<std::uint64_t> mismatches{0}, poisoned{0}, max_gap_ns{0};
    std::atomic<std::uint64_t> kvm_batches{0}, kvm_pages{0}, kvm_passes{0};
    /// Start and page of the access that is under way; 0 = none.
    std::atomic<std::uint64_t> busy_since{0}, busy_page{0};
    Latency all, first;
};

/// One vCPU: touches, writes and gives back pages of its own slice. `checkpoint` is called between
/// two accesses; it blocks while the VM is paused and answers false when the guest shall end.
/// `wait_until` sleeps up to the time (monotonic ns).
class Vcpu {
public:
    Vcpu(
        GuestWorld& world, const GuestParameters& parameters, VcpuStats& stats, unsigned number,
        unsigned count
    );
    void
    run(const std::function<bool()>& checkpoint,
        const std::function<void(std::uint64_t)>& wait_until);
    /// The real guest walks all of RAM instead. Ends early with an error text.
    Result<void> run_kvm(KvmGuest& kvm, const std::function<bool()>& checkpoint);

private:
    void touch(std::uint64_t page, bool write);
    void check_page(std::uint64_t page);
    void drop(std::uint64_t page, std::uint64_t count);
    void random_drop();
    bool replay(const std::function<bool()>& checkpoint);
    void replay_step(const GuestParameters::TraceStep& step);
    std::optional<std::uint64_t> next_page(std::uint64_t index);
    Result<void> kvm_batch(
        KvmGuest& kvm, std::uint64_t first, std::uint64_t last, std::uint32_t pass, bool write
    );

    GuestWorld& world_;
    GuestParameters parameters_;
    VcpuStats& stats_;
    Random random_;
    unsigned count_;
    std::uint64_t host_page_;   ///< small pages per page of the mapping
    std::uint64_t begin_, end_; ///< the slice
    std::uint64_t last_end_ = 0;
};

} // namespace thaw::standin
