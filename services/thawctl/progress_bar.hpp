// SPDX-License-Identifier: MIT
#pragma once

#include "core/text.hpp"

#include <string>
#include <string_view>

namespace thaw::ctl {

// One line on stderr that is drawn over again; silent where stderr is no terminal.
class ProgressBar {
public:
    ProgressBar();
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;
    ~ProgressBar() { clear(); }

    bool visible() const { return visible_; }
    // fraction 0..1; drawn at most ten times a second unless the label changed.
    void show(double fraction, std::string_view label);
    // Wipes the line, so that ordinary output can follow.
    void clear();

private:
    bool visible_;
    bool drawn_ = false;
    Microseconds last_ = 0;
    std::string label_;
};

// "[#####-----]  50% label", at most `columns` wide.
std::string format_bar(double fraction, std::string_view label, unsigned columns);

} // namespace thaw::ctl
