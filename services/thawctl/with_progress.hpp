// SPDX-License-Identifier: MIT
#pragma once

// A bar on the terminal and Ctrl-C for work that counts bytes.

#include "interrupt.hpp"
#include "progress_bar.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace thaw::ctl {

// Runs `work` with a progress callback, (done, total) in bytes, that draws and answers false once
// the user has had enough.
template <class Work>
auto with_progress(const std::string& label, Work work) {
    const InterruptGuard guard;
    ProgressBar bar;
    const auto begin = now_monotonic();
    return work([&](std::uint64_t done, std::uint64_t total) {
        const auto elapsed = std::max<Microseconds>(now_monotonic() - begin, 1);
        const auto rate = static_cast<std::uint64_t>(
            static_cast<double>(done) * kUsecPerSec / static_cast<double>(elapsed)
        );
        bar.show(
            total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total),
            fmt::format("{}  {}/s", label, format_size(rate))
        );
        return !was_interrupted();
    });
}

} // namespace thaw::ctl
