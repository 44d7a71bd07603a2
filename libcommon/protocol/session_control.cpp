// SPDX-License-Identifier: MIT

// What broker and worker tell each other through the session memory beyond the fault path: the
// broker's wishes, the pages that are in, the order of first touches.

#include "protocol/chunk_map.hpp"
#include "protocol/session_memory.hpp"

#include <algorithm>
#include <bit>
#include <new>

namespace thaw::protocol {

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

} // namespace

SessionControl& SessionMemory::control() const noexcept {
    return *std::launder(reinterpret_cast<SessionControl*>(base_ + kControlOffset));
}

void SessionMemory::count_change() const noexcept {
    control().serial.fetch_add(1, std::memory_order_release);
}

void SessionMemory::set_prefetch(const PrefetchPolicy& policy) noexcept {
    auto& wanted = control();
    const bool allowed = policy.enabled && (info_.flags & kFlagRecording) == 0;
    wanted.prefetch.store(allowed ? 1 : 0, kRelaxed);
    wanted.prefetch_rate.store(policy.rate, kRelaxed);
    wanted.replay_budget.store(policy.replay_budget, kRelaxed);
    wanted.sequential_budget.store(policy.sequential_budget, kRelaxed);
    wanted.memory_pressure.store(policy.memory_pressure, kRelaxed);
    wanted.io_pressure.store(policy.io_pressure, kRelaxed);
    count_change();
}

PrefetchPolicy SessionMemory::prefetch() const noexcept {
    const auto& wanted = control();
    return {
        .enabled = wanted.prefetch.load(kRelaxed) != 0,
        .rate = wanted.prefetch_rate.load(kRelaxed),
        .replay_budget = wanted.replay_budget.load(kRelaxed),
        .sequential_budget = wanted.sequential_budget.load(kRelaxed),
        .memory_pressure = wanted.memory_pressure.load(kRelaxed),
        .io_pressure = wanted.io_pressure.load(kRelaxed),
    };
}

void SessionMemory::request_populate(bool wanted) noexcept {
    control().populate.store(wanted ? 1 : 0, kRelaxed);
    count_change();
}

void SessionMemory::request_quiesce(bool wanted) noexcept {
    control().quiesce.store(wanted ? 1 : 0, kRelaxed);
    count_change();
}

void SessionMemory::request_tracking(bool wanted) noexcept {
    control().track.store(wanted ? 1 : 0, kRelaxed);
    count_change();
}

std::uint32_t SessionMemory::request_vouching() noexcept {
    const auto number = control().vouch.fetch_add(1, std::memory_order_release) + 1;
    count_change();
    return number;
}

void SessionMemory::clear_dirty() noexcept {
    for (std::uint64_t word = 0; word < (page_count() + 63) / 64; ++word)
        dirty_words()[word].store(0, kRelaxed);
}

std::vector<std::uint64_t> SessionMemory::dirty_bitmap() const {
    std::vector<std::uint64_t> words((page_count() + 63) / 64);
    for (std::size_t i = 0; i < words.size(); ++i)
        words[i] = dirty_words()[i].load(std::memory_order_acquire);
    if (page_count() % 64 != 0) words.back() &= (std::uint64_t{1} << page_count() % 64) - 1;
    return words;
}

bool SessionMemory::is_present(std::uint64_t page) const noexcept {
    if (page >= page_count()) return false;
    return (present_words()[page / 64].load(std::memory_order_acquire) >> (page % 64) & 1) != 0;
}

std::uint64_t SessionMemory::set_present(std::uint64_t first_page, std::uint64_t count) noexcept {
    if (first_page >= page_count()) return 0;
    std::uint64_t left = std::min(count, page_count() - first_page);
    std::uint64_t fresh = 0;
    for (std::uint64_t page = first_page; left > 0;) {
        const std::uint64_t here = std::min<std::uint64_t>(left, 64 - page % 64);
        const std::uint64_t ones = here == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << here) - 1;
        auto& word = present_words()[page / 64];
        // One writer, so no locked operation in the fault path.
        const std::uint64_t before = word.load(kRelaxed);
        const std::uint64_t mask = ones << (page % 64);
        word.store(before | mask, std::memory_order_release);
        fresh += static_cast<std::uint64_t>(std::popcount(mask & ~before));
        page += here;
        left -= here;
    }
    return fresh;
}

std::uint64_t SessionMemory::missing_run(std::uint64_t first_page, std::uint64_t limit, bool wanted)
    const noexcept {
    if (first_page >= page_count()) return 0;
    const std::uint64_t end = first_page + std::min(limit, page_count() - first_page);
    const auto* present = present_words();
    const auto* removed = removed_words();
    for (std::uint64_t page = first_page; page < end;) {
        const std::uint64_t in = present[page / 64].load(std::memory_order_acquire) |
                                 removed[page / 64].load(std::memory_order_acquire);
        // Ones where the run ends; what lies before `page` is shifted out.
        const std::uint64_t ends = (wanted ? in : ~in) >> (page % 64);
        const std::uint64_t here = std::min<std::uint64_t>(64 - page % 64, end - page);
        const auto run = static_cast<std::uint64_t>(std::countr_zero(ends));
        if (run < here) return page + run - first_page;
        page += here;
    }
    return end - first_page;
}

bool SessionMemory::is_covered(const Region& region) const noexcept {
    const std::uint64_t pages = region.size / kBitPage;
    return missing_run(region.offset / kBitPage, pages, false) == pages;
}

std::atomic<std::uint32_t>* SessionMemory::touch_log() const noexcept {
    return std::launder(reinterpret_cast<std::atomic<std::uint32_t>*>(
        base_ + kBitmapOffset + 3 * bitmap_bytes(info_.memory_size)
    ));
}

void SessionMemory::note_touch(std::uint64_t page) noexcept {
    if ((info_.flags & kFlagRecording) == 0) return;
    const std::uint64_t at = state().touches.load(kRelaxed);
    if (at >= page_count() || page >= page_count()) return;
    touch_log()[at].store(static_cast<std::uint32_t>(page), kRelaxed);
    state().touches.store(at + 1, std::memory_order_release);
}

std::vector<std::uint32_t> SessionMemory::touches() const {
    std::vector<std::uint32_t> pages;
    if ((info_.flags & kFlagRecording) == 0) return pages;
    const std::uint64_t count =
        std::min(state().touches.load(std::memory_order_acquire), page_count());
    std::vector<bool> seen(page_count());
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint32_t page = touch_log()[i].load(kRelaxed);
        if (page >= page_count() || seen[page]) continue;
        seen[page] = true;
        pages.push_back(page);
    }
    return pages;
}

// nullptr: there is no such chunk.
std::atomic<std::uint32_t>* SessionMemory::chunk_uses(std::uint64_t chunk) const noexcept {
    const std::uint64_t chunks = (info_.memory_size + kChunkSize - 1) / kChunkSize;
    if ((info_.flags & kFlagChunked) == 0 || chunk >= chunks) return nullptr;
    std::byte* base = base_ + chunk_use_offset(info_.memory_size, info_.flags);
    return std::launder(reinterpret_cast<std::atomic<std::uint32_t>*>(base)) + chunk;
}

void SessionMemory::note_chunk_use(std::uint64_t chunk, std::uint64_t now_ns) noexcept {
    if (auto* use = chunk_uses(chunk))
        use->store(static_cast<std::uint32_t>(now_ns >> kChunkUseShift), kRelaxed);
}

std::uint32_t SessionMemory::chunk_use(std::uint64_t chunk) const noexcept {
    const auto* use = chunk_uses(chunk);
    return use == nullptr ? 0 : use->load(kRelaxed);
}

} // namespace thaw::protocol
