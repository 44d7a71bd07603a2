// SPDX-License-Identifier: MIT
#include "chunk_plan.hpp"

#include "protocol/chunk_map.hpp"

#include <algorithm>

namespace thaw::pagerd {

ChunkBudget chunk_budget(const CacheBudget& budget) {
    constexpr std::uint64_t kFewest = 4;
    const bool is_file = budget.backing == CacheBacking::File;
    const std::uint64_t memory = is_file ? std::min(budget.memory, kFileWindow) : budget.memory;
    return {
        .memory = std::max(memory / protocol::kChunkSize, kFewest),
        .disk = budget.backing == CacheBacking::Memory ? 0 : budget.disk / protocol::kChunkSize,
    };
}

std::vector<ChunkAge>
choose_victims(std::vector<ChunkAge> candidates, std::size_t count, std::uint32_t now) {
    const auto key = [now](const ChunkAge& age) {
        // Oldest first; a use after `now` is as good as now.
        const auto since = static_cast<std::int32_t>(now - age.last_use);
        return std::pair{age.has_users, -std::max(since, 0)};
    };
    count = std::min(count, candidates.size());
    const auto middle = candidates.begin() + static_cast<std::ptrdiff_t>(count);
    std::ranges::partial_sort(candidates, middle, {}, key);
    candidates.erase(middle, candidates.end());
    return candidates;
}

} // namespace thaw::pagerd
