// SPDX-License-Identifier: MIT
#include "reserve/release.hpp"

#include "core/fd.hpp"
#include "reserve/chunk.hpp"
#include "reserve/directory.hpp"
#include "reserve/file_system.hpp"
#include "reserve/retry.hpp"
#include "reserve/space.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <ranges>

namespace thaw::reserve {

namespace {

void note(ReleaseReport& report, const Error& error) {
    report.problems.push_back(error.message());
}

// One that is gone already is what was wanted.
bool remove_one(int directory, const std::string& name, ReleaseReport& report) {
    const auto freed = remove_chunk(directory, name);
    if (freed) {
        report.let_go += *freed;
        return true;
    }
    if (freed.error().code() != ENOENT) note(report, freed.error());
    return false;
}

// From the last chunk down, so that the first ones, which are laid first, stay longest.
Result<> remove_chunks(int directory, const ReleaseRequest& request, ReleaseReport& report) {
    THAW_TRY(const auto entries, list_reserve(directory));
    for (const auto& name : entries.fresh)
        remove_one(directory, name, report);
    for (const unsigned index : entries.chunks | std::views::reverse) {
        if (request.bytes && report.let_go >= *request.bytes) {
            if (const auto facts = look_at_chunk(directory, chunk_name(index)))
                report.remaining += facts->allocated;
            continue;
        }
        if (remove_one(directory, chunk_name(index), report)) report.chunks++;
    }
    return {};
}

void take_lock(int directory, ReleaseReport& report) {
    const auto held = lock_reserve(directory, kReleaseLockWait);
    // A file system that cannot lock is no reason to stay full.
    if (!held) note(report, held.error());
    report.lock_ignored = held && !*held;
}

void measure_gain(int root, const Volume& volume, const Space& before, ReleaseReport& report) {
    if (frees_at_commit(volume.type) && retry([&] { return syncfs(root); }) < 0)
        report.problems.push_back("syncfs: " + errno_text(errno));
    const auto after = space_of(root);
    if (!after) return note(report, after.error());
    report.gained = after->free - std::min(after->free, before.free);
    report.gained_available = after->available - std::min(after->available, before.available);
}

} // namespace

Result<ReleaseReport> release(const Volume& volume, const ReleaseRequest& request) {
    ReleaseReport report;
    THAW_TRY(const Fd root, open_volume_root(volume));
    const auto directory = open_reserve(root.get());
    if (!directory) {
        if (directory.error().code() == ENOENT) return report;
        return std::unexpected(directory.error());
    }
    take_lock(directory->get(), report);
    // Without the numbers from before there is still something to release.
    const auto before = space_of(root.get());
    if (!before) note(report, before.error());
    THAW_CHECK(remove_chunks(directory->get(), request, report));
    if (before) measure_gain(root.get(), volume, *before, report);
    if (request.probe) {
        if (const auto probed = probe(volume))
            report.probe = *probed;
        else
            note(report, probed.error());
    }
    if (request.trim && volume.backing == Backing::Thin && report.let_go > 0) {
        if (const auto trimmed = trim(root.get()))
            report.trimmed = *trimmed;
        else
            note(report, trimmed.error());
    }
    return report;
}

} // namespace thaw::reserve
