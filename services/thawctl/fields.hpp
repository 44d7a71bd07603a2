// SPDX-License-Identifier: MIT
#pragma once

#include "output.hpp"

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace thaw::ctl {

// "     Label: text" lines, right-aligned labels as systemctl has them. Empty texts are left out.
class Fields {
public:
    void add(std::string_view label, std::string_view text, Color color = Color::None) {
        if (text.empty()) return;
        const bool colors = color != Color::None && wants_color(1);
        const auto shown = printable(text);
        text_ += fmt::format("{:>12}: {}\n", label, colors ? colored(color, shown) : shown);
    }
    const std::string& text() const { return text_; }

private:
    std::string text_;
};

} // namespace thaw::ctl
