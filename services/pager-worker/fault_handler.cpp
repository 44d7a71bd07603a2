// SPDX-License-Identifier: MIT
#include "fault_handler.hpp"

#include "clock.hpp"

#include <linux/userfaultfd.h>

#include <algorithm>
#include <cerrno>

namespace thaw::worker {

using protocol::FailureReason;

namespace {

// A fill from the mapping that took longer may have met a disk.
constexpr std::uint64_t kSlowFillNs = 50 * kNsPerUs;

} // namespace

FaultHandler::FaultHandler(
    protocol::SessionMemory& memory, const RegionMap& regions, const Installer& installer,
    Tracker& tracker, PageSource& source, DemandReads& reads, Ledger& ledger, RunInstaller& runs,
    LossHandler on_loss
)
    : memory_(memory), state_(memory.state()), counters_(memory.counters()), regions_(regions),
      installer_(installer), tracker_(tracker), source_(source), reads_(reads), ledger_(ledger),
      runs_(runs), on_loss_(std::move(on_loss)),
      recording_((memory.info().flags & protocol::kFlagRecording) != 0),
      bytes_before_(counters_.bytes_read.load(std::memory_order_relaxed)),
      checked_before_(counters_.pages_checked.load(std::memory_order_relaxed)) {}

void FaultHandler::page_fault(std::uint64_t address, std::uint64_t flags) {
    bump(counters_.faults);
    if (batch_ns_ == 0) {
        batch_ns_ = now_ns();
        if (counters_.first_fault_ns.load(std::memory_order_relaxed) == 0)
            counters_.first_fault_ns.store(batch_ns_, std::memory_order_relaxed);
        counters_.last_fault_ns.store(batch_ns_, std::memory_order_relaxed);
    }
    const auto page = regions_.find(address);
    if (!page) { // registered by somebody else, or a message that makes no sense
        bump(counters_.gone);
        return;
    }
    if (lost_.contains(page->address)) return; // its waiters stay where they are
    const bool is_there = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
    if (is_there) bump(counters_.write_faults);
    queue_.add({
        .page = *page,
        .write = (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0,
        .is_there = is_there,
        .taken_ns = batch_ns_,
    });
    if (state_.oldest_fault_ns.load(std::memory_order_relaxed) == 0)
        state_.oldest_fault_ns.store(batch_ns_, std::memory_order_relaxed);
}

void FaultHandler::removed(std::uint64_t start, std::uint64_t end) {
    bump(counters_.removes);
    for (const BitRange& range : regions_.clamp(start, end)) {
        tracker_.removed(range);
        ledger_.removed(range);
    }
}

void FaultHandler::other_event(std::uint8_t /*event*/) {
    bump(counters_.other_events);
}

void FaultHandler::wake_all() {
    for (const auto& region : regions_.regions()) {
        bump(counters_.wakes);
        installer_.wake(region.base, region.size);
    }
}

void FaultHandler::serve(std::uint64_t now) {
    batch_ns_ = 0;
    if (!queue_.has_pending() && queue_.parked() == 0) return;
    while (const auto fault = queue_.take(now))
        if (answer(*fault) == Step::Stop) break;
    while (const auto failed = reads_.take_failed())
        take_read(*failed);
    publish_age();
}

void FaultHandler::publish_age() {
    std::uint64_t oldest = queue_.oldest();
    const bool reading = reads_.count() > 0;
    if (reading && (oldest == 0 || reads_.oldest() < oldest)) oldest = reads_.oldest();
    state_.oldest_fault_ns.store(oldest, std::memory_order_relaxed);
    counters_.parked.store(queue_.parked() + lost_.size(), std::memory_order_relaxed);
    // A source that takes its time is no sign of a worker that is stuck.
    const bool slow = reading || queue_.waits_for_source();
    state_.source_slow.store(slow ? 1 : 0, std::memory_order_relaxed);
}

// What earlier workers of the session read counts too.
void FaultHandler::publish_source() const {
    counters_.bytes_read.store(bytes_before_ + source_.bytes_read(), std::memory_order_relaxed);
    counters_.pages_checked.store(
        checked_before_ + source_.pages_checked(), std::memory_order_relaxed
    );
}

FillKind FaultHandler::kind_of(const PageLocation& page) const {
    return decide_fill({
        .removed = memory_.any_removed(page.first_bit(), page.bit_count()),
        .image_zero = source_.is_zero(page.offset, page.page_size),
        .page_size = page.page_size,
    });
}

FillResult FaultHandler::fill(const Fault& fault, FillKind kind, const std::byte* data) {
    const PageLocation& page = fault.page;
    state_.published_chunk.store(page.first_bit() + 1, std::memory_order_relaxed);
    FillResult result;
    if (kind == FillKind::ZeroPage)
        result = tracker_.zero(page, page.page_size);
    else if (kind == FillKind::CopyZeros)
        result = tracker_.copy(page, source_.zeros(), page.page_size, fault.write);
    else
        result = tracker_.copy(page, data, page.page_size, fault.write);
    state_.published_chunk.store(0, std::memory_order_relaxed);
    return result;
}

FaultHandler::Step FaultHandler::answer(const Fault& fault) {
    if (fault.attempts > 0) bump(counters_.retries);
    if (fault.is_there) return allow_write(fault);
    const PageLocation& page = fault.page;
    const FillKind kind = kind_of(page);
    if (kind != FillKind::Data) {
        const Step step = conclude(fault, kind, fill(fault, kind, nullptr));
        if (kind == FillKind::ZeroPage && step == Step::Next) fill_zeros_around(fault);
        return step;
    }
    if (const std::byte* direct = source_.direct(page.offset, page.page_size)) {
        const FillResult result = fill(fault, FillKind::Data, direct);
        if (result.outcome != FillOutcome::SourceFault) {
            const Step step = conclude(fault, FillKind::Data, result);
            if (answered_ns_ > fault.taken_ns + kSlowFillNs) source_.direct_was_slow();
            return step;
        }
        // The mapping has no bytes there; reading says why.
    }
    const auto bytes = source_.load_now(page.offset, page.page_size);
    publish_source();
    if (!bytes) {
        bump(counters_.source_errors);
        return retry(fault, ParkReason::Source, bytes.error());
    }
    if (const auto& there = *bytes) return answer_with(fault, there->data());
    reads_.add(fault);
    return Step::Next;
}

FaultHandler::Step FaultHandler::answer_with(const Fault& fault, const std::byte* data) {
    // A removal may have come while the bytes were read.
    const FillKind kind = kind_of(fault.page);
    return conclude(fault, kind, fill(fault, kind, data));
}

void FaultHandler::take_read(const DemandReads::Finished& finished) {
    if (finished.bytes) {
        answer_with(finished.fault, finished.bytes->data());
    } else {
        bump(counters_.source_errors);
        retry(finished.fault, ParkReason::Source, finished.bytes.error());
    }
    reads_.release(finished.index);
}

void FaultHandler::read_ended(std::uint64_t token, std::int64_t result) {
    const auto finished = reads_.read_ended(token, result);
    publish_source();
    if (finished) take_read(*finished);
    publish_age();
}

// A guest that meets one zero page of the image soon meets its neighbours, and a page of zeros
// costs a tenth of a fault, without any memory. Not in a recording, which wants to see each of
// them.
void FaultHandler::fill_zeros_around(const Fault& fault) {
    constexpr std::uint64_t kAround = 16;
    const std::uint64_t page = fault.page.first_bit();
    if (recording_ || memory_.is_removed(page)) return;
    const std::uint64_t next = page + 1;
    const std::uint64_t most = std::min(kAround, memory_.page_count() - next);
    if (most == 0 || !source_.is_zero(next * protocol::kBitPage, protocol::kBitPage)) return;
    runs_.fill(Cause::Demand, {next, source_.run_length(next, most)}, nullptr);
}

FaultHandler::Step
FaultHandler::conclude(const Fault& fault, FillKind kind, const FillResult& result) {
    const PageLocation& page = fault.page;
    switch (result.outcome) {
    case FillOutcome::Done:
        present_.filled(page.address);
        count_filled(fault, kind, memory_.any_removed(page.first_bit(), page.bit_count()));
        return Step::Next;
    case FillOutcome::Present:
        if (page.page_size == protocol::kBitPage)
            ledger_.found({page.first_bit(), 1}, true);
        else
            bump(counters_.exists);
        if (present_.lacks_memory(page.address, page.page_size, fault.taken_ns))
            return retry(fault, ParkReason::Memory, {FailureReason::Install, ENOMEM});
        bump(counters_.wakes);
        installer_.wake(page.address, page.page_size);
        return Step::Next;
    case FillOutcome::Gone: // whoever waits there finds out by trying again
        tracker_.fail(result.errno_value);
        bump(counters_.gone);
        bump(counters_.wakes);
        installer_.wake(page.address, page.page_size);
        return Step::Next;
    case FillOutcome::Partial: // a page is filled whole or not; the rest comes with the next try
        bump(counters_.partial);
        [[fallthrough]];
    case FillOutcome::Busy: {
        bump(counters_.again);
        const std::uint64_t now = now_ns();
        Fault like = fault;
        like.retry_ns = now + park_delay_ns(ParkReason::Busy, fault.attempts + 1);
        queue_.park(fault, ParkReason::Busy, now);
        queue_.park_pending(like);
        return Step::Stop;
    }
    case FillOutcome::VmmGone:
        vmm_gone_ = true;
        return Step::Stop;
    case FillOutcome::NoMemory:
        return retry(fault, ParkReason::Memory, {FailureReason::Install, result.errno_value});
    case FillOutcome::SourceFault:
    case FillOutcome::Broken:
        break;
    }
    lose(fault, {FailureReason::Install, result.errno_value});
    return Step::Next;
}

FaultHandler::Step FaultHandler::allow_write(const Fault& fault) {
    const FillResult result = tracker_.allow_write(fault.page);
    if (result.outcome != FillOutcome::Done) return conclude(fault, FillKind::Data, result);
    count_answer(fault);
    return Step::Next;
}

FaultHandler::Step FaultHandler::retry(Fault fault, ParkReason reason, SourceError why) {
    const unsigned attempts = fault.reason == reason ? fault.attempts + 1 : 1;
    if (is_lost(reason, attempts))
        lose(fault, why);
    else
        queue_.park(fault, reason, now_ns());
    return Step::Next;
}

void FaultHandler::count_filled(const Fault& fault, FillKind kind, bool was_removed) {
    ledger_.installed(
        Cause::Demand, kind, {fault.page.first_bit(), fault.page.bit_count()}, was_removed
    );
    count_answer(fault);
}

void FaultHandler::count_answer(const Fault& fault) {
    answered_ns_ = now_ns();
    const std::uint64_t took = answered_ns_ > fault.taken_ns ? answered_ns_ - fault.taken_ns : 0;
    bump(counters_.latency[latency_bucket(took)]);
    bump(counters_.latency_sum_ns, took);
}

bool FaultHandler::try_poison(const Fault& fault) {
    const PageLocation& page = fault.page;
    const FillResult result = installer_.poison(page.address, page.page_size);
    switch (result.outcome) {
    case FillOutcome::Done:
        bump(state_.failure.poisoned, page.bit_count());
        return true;
    case FillOutcome::Busy: // asked again, source included, once the removal is over
        queue_.park(fault, ParkReason::Busy, now_ns());
        return true;
    case FillOutcome::Present:
    case FillOutcome::Gone:
        bump(counters_.wakes);
        installer_.wake(page.address, page.page_size);
        return true;
    default:
        return false;
    }
}

void FaultHandler::lose(const Fault& fault, SourceError why) {
    const PageLocation& page = fault.page;
    auto& record = state_.failure;
    if (record.reason.load(std::memory_order_acquire) == 0) {
        record.errno_value.store(why.errno_value, std::memory_order_relaxed);
        record.page_offset.store(page.offset, std::memory_order_relaxed);
        record.when_ns.store(now_ns(), std::memory_order_relaxed);
        record.reason.store(static_cast<std::uint32_t>(why.reason), std::memory_order_release);
    }
    bump(record.pages, page.bit_count());
    state_.phase.store(
        static_cast<std::uint32_t>(protocol::WorkerPhase::Failed), std::memory_order_release
    );
    const auto action = decide_loss(memory_.info().policy, installer_.can_poison());
    // A page that is there and only cannot be written keeps its content.
    if (action != LossAction::Poison || fault.is_there || !try_poison(fault)) {
        lost_.insert(page.address);
        state_.stop_pending.store(1, std::memory_order_release);
    }
    on_loss_({
        .reason = why.reason,
        .errno_value = why.errno_value,
        .page_offset = page.offset,
        .fatal = false,
    });
}

} // namespace thaw::worker
