// SPDX-License-Identifier: MIT
#include "reserve/measure.hpp"

#include "reserve/chunk.hpp"
#include "reserve/directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace thaw::reserve {

namespace {

void add(Measurement& measured, const Chunk& chunk, std::uint64_t planned) {
    measured.allocated += chunk.allocated;
    measured.releasable += chunk.releasable;
    if (chunk.health == ChunkHealth::Absent && planned > 0) {
        measured.missing += planned;
        measured.missing_chunks++;
    }
    measured.chunks.push_back(chunk);
}

Result<>
measure_chunks(int directory, const Volume& volume, const Plan& plan, Measurement& measured) {
    for (unsigned index = 0; index < plan.chunks(); index++) {
        const auto planned = plan.chunk_length(index);
        THAW_TRY(const auto facts, look_at_chunk(directory, chunk_name(index)));
        add(measured, judge_chunk(index, facts, planned, volume.backing), planned);
    }
    THAW_TRY(const auto entries, list_reserve(directory));
    for (const unsigned index : entries.chunks) {
        if (index < plan.chunks()) continue;
        THAW_TRY(const auto facts, look_at_chunk(directory, chunk_name(index)));
        const auto planned = plan.provisional ? facts.length : 0;
        add(measured, judge_chunk(index, facts, planned, volume.backing), 0);
    }
    for (const auto& name : entries.fresh) {
        const auto facts = look_at_chunk(directory, name);
        if (facts) measured.leftovers += facts->allocated;
    }
    measured.releasable += measured.leftovers;
    return {};
}

bool is_text(int directory) {
    struct stat st{};
    return fstatat(directory, kTextFile, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

} // namespace

Result<Measurement> measure(const Volume& volume, const Plan& plan) {
    Measurement measured;
    measured.planned = plan.bytes;
    THAW_TRY(const Fd root, open_volume_root(volume));
    THAW_TRY(measured.space, space_of(root.get()));
    const auto directory = open_reserve(root.get());
    if (!directory) {
        if (directory.error().code() != ENOENT) return std::unexpected(directory.error());
        measured.missing = plan.bytes;
        measured.missing_chunks = plan.chunks();
        for (unsigned index = 0; index < plan.chunks(); index++)
            measured.chunks.push_back({.index = index});
        return measured;
    }
    measured.text = is_text(directory->get());
    THAW_CHECK(measure_chunks(directory->get(), volume, plan, measured));
    return measured;
}

bool Measurement::holds() const {
    return std::ranges::any_of(chunks, [](const Chunk& chunk) {
        return chunk.health != ChunkHealth::Absent;
    });
}

State judge(const Measurement& measured, bool deferred, bool failed) {
    if (!measured.holds()) {
        if (failed) return State::Failed;
        return deferred && !measured.text ? State::Deferred : State::Released;
    }
    const auto worth = measured.releasable - measured.leftovers;
    if (measured.allocated > 0 && worth <= measured.allocated / 2) return State::Placebo;
    const bool sound = std::ranges::all_of(measured.chunks, [](const Chunk& chunk) {
        return chunk.health == ChunkHealth::Healthy;
    });
    return sound && worth >= measured.planned ? State::Armed : State::Degraded;
}

Result<std::uint64_t> releasable_at(const std::string& path) {
    THAW_TRY(const auto volume, find_volume(path));
    if (!volume.has_reserve) return 0;
    // Without a plan every chunk is surplus, which does not change what it would free.
    THAW_TRY(const auto measured, measure(volume, Plan{.bytes = 0}));
    return measured.releasable;
}

} // namespace thaw::reserve
