// SPDX-License-Identifier: MIT
#pragma once

// Which volumes want their writers paused, across restarts of the guardian: one that is started
// anew at a level between `full` and "room again" cannot know it from the disk, and would let the
// writers loose on what the release gave. In /run, which a full disk leaves alone; a reboot ends
// the writers anyhow.

#include "core/error.hpp"

#include <set>
#include <string>

namespace thaw::diskguard {

inline constexpr const char* kPauseFile = "/run/thaw/diskguard/paused";

class PauseBook {
public:
    // A file that cannot be read is an empty book, with a warning in the journal.
    static PauseBook load(std::string path = kPauseFile);

    bool contains(const std::string& volume) const { return volumes_.contains(volume); }
    // Written at once. After an Error the book in memory is right all the same.
    Result<> set(const std::string& volume, bool paused);

private:
    explicit PauseBook(std::string path) : path_(std::move(path)) {}

    std::string path_;
    std::set<std::string> volumes_; // ids
};

} // namespace thaw::diskguard
