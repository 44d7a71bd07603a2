// SPDX-License-Identifier: MIT
#pragma once

// From messages to pages: keeps the removed bitmap, the queue of faults and the counters, fills
// pages, parks what cannot be filled yet, gives up by policy what cannot be filled at all.
//
// It never reads the userfaultfd. Its caller (Worker) sees to the rule that no fill happens between
// a read and the application of its messages.

#include "demand_reads.hpp"
#include "fault_queue.hpp"
#include "installer.hpp"
#include "ledger.hpp"
#include "message_ring.hpp"
#include "page_source.hpp"
#include "protocol/session_memory.hpp"
#include "protocol/worker_control.hpp"
#include "region_map.hpp"
#include "run_installer.hpp"

#include <cstdint>
#include <functional>
#include <unordered_set>

namespace thaw::worker {

class FaultHandler final : public MessageSink {
public:
    // All outlive the handler. `on_loss` hears of each page that is given up; it may log and send,
    // and must not call back.
    using LossHandler = std::function<void(const protocol::FailedMessage&)>;
    FaultHandler(
        protocol::SessionMemory& memory, const RegionMap& regions, const Installer& installer,
        Tracker& tracker, PageSource& source, DemandReads& reads, Ledger& ledger,
        RunInstaller& runs, LossHandler on_loss
    );

    // MessageSink.
    void page_fault(std::uint64_t address, std::uint64_t flags) override;
    void removed(std::uint64_t start, std::uint64_t end) override;
    void other_event(std::uint8_t event) override;

    // Answers what can be answered now; everything else is parked, or its bytes are being read,
    // when this returns.
    void serve(std::uint64_t now); // `now`: a moment ago
    // When the messages were read that serve() has not seen yet; 0: there are none.
    std::uint64_t batch_time() const { return batch_ns_; }
    // The end of a read that DemandReads asked for.
    void read_ended(std::uint64_t token, std::int64_t result);
    // Lets every waiter of every region try again.
    void wake_all();
    // No fault waits for anything, those given up (StopPending) aside.
    bool is_idle() const {
        return !queue_.has_pending() && queue_.parked() == 0 && reads_.count() == 0;
    }
    // When serve() has something to do next without any message; kNever: nothing.
    std::uint64_t next_deadline() const { return queue_.next_deadline(); }
    // The VMM's address space is gone; its pidfd will say so in a moment.
    bool vmm_is_gone() const { return vmm_gone_; }

private:
    enum class Step { Next, Stop };
    Step answer(const Fault& fault);
    Step answer_with(const Fault& fault, const std::byte* data);
    FillResult fill(const Fault& fault, FillKind kind, const std::byte* data);
    Step allow_write(const Fault& fault);
    void take_read(const DemandReads::Finished& finished);
    void fill_zeros_around(const Fault& fault);
    void publish_source() const;
    Step conclude(const Fault& fault, FillKind kind, const FillResult& result);
    Step retry(Fault fault, ParkReason reason, SourceError why);
    void count_answer(const Fault& fault);
    void count_filled(const Fault& fault, FillKind kind, bool was_removed);
    void lose(const Fault& fault, SourceError why);
    bool try_poison(const Fault& fault);
    void publish_age();
    FillKind kind_of(const PageLocation& page) const;

    protocol::SessionMemory& memory_;
    protocol::SessionState& state_;
    protocol::SessionCounters& counters_;
    const RegionMap& regions_;
    const Installer& installer_;
    Tracker& tracker_;
    PageSource& source_;
    DemandReads& reads_;
    Ledger& ledger_;
    RunInstaller& runs_;
    LossHandler on_loss_;
    bool recording_;
    std::uint64_t bytes_before_;   // read by earlier workers of the session
    std::uint64_t checked_before_; // pages they checked
    FaultQueue queue_;
    PresentStreak present_;
    std::unordered_set<std::uint64_t> lost_; // addresses of pages whose waiters stay parked
    std::uint64_t batch_ns_ = 0;             // when the messages of this batch were read
    std::uint64_t answered_ns_ = 0;          // when the latest fault was answered
    bool vmm_gone_ = false;
};

} // namespace thaw::worker
