// SPDX-License-Identifier: MIT
#pragma once

// How results reach the user: tables for people, JSON for programs, a pager for long texts.

#include "table.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace thaw::ctl {

enum class JsonMode { Off, Short, Pretty };

// What the global options and the environment decided.
struct OutputOptions {
    JsonMode json = JsonMode::Off;
    bool pager = true;
    bool legend = true;
    bool ask_password = true;
};

bool is_terminal(int fd);
// Colours on `fd`: $SYSTEMD_COLORS, $NO_COLOR, $TERM, and only on a terminal.
bool wants_color(int fd);
// Character set for widths; call once at start.
void setup_locale();

void print_json(const nlohmann::json& value, JsonMode mode);
// The table, or the rows as JSON. `noun` names what is listed: "VMs" gives "No VMs." and the
// closing count "2 VMs listed.".
void print_table(
    const Table& table, const nlohmann::json& rows, std::string_view noun,
    const OutputOptions& options
);
// Long text, through the pager where that is wanted.
void print_text(const std::string& text, const OutputOptions& options);
// "thawctl: TEXT" on stderr, red on a terminal.
void print_error(std::string_view text);
void print_warning(std::string_view text);
void print_hint(std::string_view text);

Color color_of_state(std::string_view state);

} // namespace thaw::ctl
