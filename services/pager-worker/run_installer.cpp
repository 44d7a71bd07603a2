// SPDX-License-Identifier: MIT
#include "run_installer.hpp"

#include <algorithm>

namespace thaw::worker {

using protocol::kBitPage;

FillResult RunInstaller::put(const PageLocation& at, std::uint64_t pages, const std::byte* data) {
    const std::uint64_t length = pages * kBitPage;
    auto& published = memory_.state().published_chunk;
    published.store(at.first_bit() + 1, std::memory_order_relaxed);
    FillResult result;
    if (data != nullptr)
        result = tracker_.copy(at, data, length, false);
    else if (at.page_size == kBitPage)
        result = tracker_.zero(at, length);
    else
        result = tracker_.copy(at, zeros_, length, false);
    published.store(0, std::memory_order_relaxed);
    return result;
}

void RunInstaller::settle_predecessor() {
    const auto& record = memory_.state().last_copy;
    const std::int64_t done = record.done.load(std::memory_order_acquire);
    const auto at = regions_.find(record.address.load(std::memory_order_relaxed));
    if (done <= 0 || !at) return;
    const std::uint64_t pages = static_cast<std::uint64_t>(done) / kBitPage;
    const BitRange range{at->first_bit(), std::min(pages, regions_.pages_after(*at))};
    memory_.set_present(range.first, range.count);
}

void RunInstaller::skip(Cause cause, std::uint64_t first, std::uint64_t count) {
    if (cause != Cause::Replay) return;
    std::uint64_t present = 0;
    for (std::uint64_t page = first; page < first + count; ++page)
        present += memory_.is_present(page) ? 1 : 0;
    ledger_.skipped(present);
}

RunResult RunInstaller::fill(Cause cause, BitRange pages, const std::byte* data) {
    RunResult result;
    while (result.pages < pages.count) {
        const std::uint64_t page = pages.first + result.pages;
        const std::uint64_t left = pages.count - result.pages;
        // What needs nothing is stepped over in runs; so is what no region has.
        const std::uint64_t done = memory_.missing_run(page, left, false);
        const auto at = done > 0 ? std::nullopt : regions_.at_offset(page * kBitPage);
        if (!at) {
            skip(cause, page, done);
            result.pages += std::max<std::uint64_t>(done, 1);
            continue;
        }
        const std::uint64_t extent = std::min(left, regions_.pages_after(*at));
        const std::byte* bytes = data == nullptr ? nullptr : data + result.pages * kBitPage;
        const RunResult part = fill_extent(cause, {*at, extent}, bytes);
        result.pages += part.pages;
        result.outcome = part.outcome;
        result.errno_value = part.errno_value;
        if (part.outcome != FillOutcome::Done) return result;
    }
    return result;
}

// One ioctl, or a step over one huge page; `pages` of the answer is never 0 with Done.
RunResult RunInstaller::fill_extent(Cause cause, const Extent& extent, const std::byte* data) {
    const std::uint64_t first = extent.first.first_bit();
    const std::uint64_t unit = extent.first.bit_count();
    std::uint64_t missing = memory_.missing_run(first, extent.pages, true);
    if (unit > 1) {
        const std::uint64_t into = regions_.pages_into(extent.first, first);
        if (into != 0 || missing < unit) return {.pages = std::min(extent.pages, unit - into)};
        missing = unit;
    }
    const FillKind kind = data != nullptr ? FillKind::Data : FillKind::ZeroPage;
    for (;;) {
        const FillResult put_in = put(extent.first, missing, data);
        switch (put_in.outcome) {
        case FillOutcome::Done:
            ledger_.installed(cause, kind, {first, missing}, false);
            return {.pages = missing};
        case FillOutcome::Partial: {
            const std::uint64_t pages = put_in.done / kBitPage;
            ledger_.installed(cause, kind, {first, pages}, false);
            return {.pages = pages};
        }
        case FillOutcome::Present: // the first one of them is there
            // An empty pool of huge pages says so as well: then it is not known.
            if (unit > 1) return {.outcome = FillOutcome::NoMemory, .errno_value = ENOMEM};
            ledger_.found({first, unit}, false);
            return {.pages = unit};
        case FillOutcome::Gone:
            if (missing > unit) { // some of them: the VMM has split its mapping
                missing = unit;
                continue;
            }
            tracker_.fail(put_in.errno_value);
            // Not the VMM's memory any more, so there is nothing that could be missing.
            if (cause == Cause::Populate) ledger_.removed({first, unit});
            return {.pages = unit};
        default:
            return {.outcome = put_in.outcome, .errno_value = put_in.errno_value};
        }
    }
}

} // namespace thaw::worker
