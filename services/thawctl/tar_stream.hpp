// SPDX-License-Identifier: MIT
#pragma once

// A folder as a tar stream: everything in it or an error, never a part that looks whole.

#include "core/error.hpp"
#include "core/fd.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace thaw::ctl {

struct TreeTotals {
    std::uint64_t files = 0; // of any kind
    std::uint64_t bytes = 0; // of regular files
};

// Opens a folder to be streamed. ENOENT, ENOTDIR, EACCES.
Result<Fd> open_source(const std::string& path);
// What is in it now. ECANCELED when `go_on` says so.
Result<TreeTotals> measure_tree(int directory, const std::function<bool()>& go_on);

struct TarOptions {
    // Takes the stream's bytes; its Error ends the streaming.
    std::function<Result<>(std::span<const std::byte>)> sink;
    // Called as the stream grows; false ends it with ECANCELED.
    std::function<bool(const TreeTotals& done)> progress;
    // Member that is written last, and what it holds.
    std::string end_member;
    std::string end_content;
    // Names at the top that stay out.
    std::vector<std::string> omit;
};

struct TarOutcome {
    TreeTotals done;
    std::uint64_t skipped = 0; // sockets, devices and pipes, which no cache needs
};

// Members keep mode and times; the owner is whoever unpacks them. Hard links within the folder stay
// links. Symlinks are copied, never followed. ESTALE when a file changed its size meanwhile.
Result<TarOutcome> stream_tree(int directory, const TarOptions& options);

} // namespace thaw::ctl
