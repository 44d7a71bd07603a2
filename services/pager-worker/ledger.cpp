// SPDX-License-Identifier: MIT
#include "ledger.hpp"

namespace thaw::worker {

using protocol::kBitPage;

void Ledger::begin_replay() {
    replayed_.resize((memory_.page_count() + 63) / 64);
}

void Ledger::installed(Cause cause, FillKind kind, BitRange pages, bool was_removed) {
    const std::uint64_t bytes = pages.count * kBitPage;
    memory_.set_present(pages.first, pages.count);
    if (kind != FillKind::Data) {
        bump(was_removed ? counters_.pages_rezero : counters_.pages_zero, pages.count);
        bump(was_removed ? counters_.bytes_removed : counters_.bytes_zero, bytes);
    } else {
        bump(counters_.pages_copied, pages.count);
        switch (cause) {
        case Cause::Demand:
            bump(counters_.bytes_demand, bytes);
            break;
        case Cause::Replay:
            bump(counters_.bytes_replay, bytes);
            break;
        case Cause::Populate:
            bump(counters_.bytes_populate, bytes);
            break;
        }
    }
    if (cause == Cause::Replay) {
        bump(counters_.replay_pages, pages.count);
        for (std::uint64_t page = pages.first; page < pages.first + pages.count; ++page)
            if (page / 64 < replayed_.size()) replayed_[page / 64] |= std::uint64_t{1} << page % 64;
    }
    if (recording_ && cause == Cause::Demand && !was_removed) memory_.note_touch(pages.first);
}

void Ledger::found(BitRange pages, bool asked) {
    bump(counters_.exists, pages.count);
    memory_.set_present(pages.first, pages.count);
    // The fault of a page that replay was faster with: it was wanted.
    if (asked && is_replayed(pages.first)) bump(counters_.replay_used, pages.count);
}

void Ledger::removed(BitRange pages) {
    if (!replayed_.empty())
        for (std::uint64_t page = pages.first; page < pages.first + pages.count; ++page) {
            if (!is_replayed(page)) continue;
            bump(counters_.replay_wasted);
            replayed_[page / 64] &= ~(std::uint64_t{1} << page % 64);
        }
    bump(counters_.pages_removed, memory_.set_removed(pages.first, pages.count));
}

} // namespace thaw::worker
