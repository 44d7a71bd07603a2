// SPDX-License-Identifier: MIT

#include "progress_bar.hpp"

#include "output.hpp"
#include "table.hpp"

#include <fmt/format.h>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace thaw::ctl {

namespace {

constexpr Microseconds kRedraw = 100 * kUsecPerMsec;
constexpr unsigned kDefaultColumns = 80;
constexpr unsigned kBarWidth = 30;

unsigned terminal_columns() {
    winsize size{};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0) return kDefaultColumns;
    return size.ws_col;
}

} // namespace

std::string format_bar(double fraction, std::string_view label, unsigned columns) {
    const double share = std::isfinite(fraction) ? std::clamp(fraction, 0.0, 1.0) : 0.0;
    const auto full = static_cast<unsigned>(share * kBarWidth);
    auto line = fmt::format(
        "[{}{}] {:3}% {}", std::string(full, '#'), std::string(kBarWidth - full, '-'),
        static_cast<unsigned>(share * 100), printable(label)
    );
    while (display_width(line) > columns)
        line.pop_back(); // a cut character is at worst a '?' wide
    return line;
}

ProgressBar::ProgressBar() : visible_(is_terminal(STDERR_FILENO)) {}

void ProgressBar::show(double fraction, std::string_view label) {
    if (!visible_) return;
    const auto now = now_monotonic();
    if (drawn_ && label == label_ && now - last_ < kRedraw) return;
    label_ = label;
    last_ = now;
    drawn_ = true;
    // One column stays free: terminals wrap at the last one.
    fmt::print(stderr, "\r{}\x1b[K", format_bar(fraction, label, terminal_columns() - 1));
    (void)std::fflush(stderr);
}

void ProgressBar::clear() {
    if (!std::exchange(drawn_, false)) return;
    fmt::print(stderr, "\r\x1b[K");
    (void)std::fflush(stderr);
}

} // namespace thaw::ctl
