// SPDX-License-Identifier: MIT

#include "output.hpp"

#include "config/json.hpp"
#include "core/text.hpp"
#include "pager_pipe.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <cstring>

namespace thaw::ctl {

bool is_terminal(int fd) {
    return isatty(fd) == 1;
}

bool wants_color(int fd) {
    if (const char* word = std::getenv("SYSTEMD_COLORS")) {
        const auto on = parse_bool(word);
        if (on) return *on;
        // "16", "256", "auto-16": colours of some depth.
        if (!std::string_view(word).starts_with("auto-")) return true;
    }
    const char* term = std::getenv("TERM");
    return std::getenv("NO_COLOR") == nullptr && is_terminal(fd) &&
           (term == nullptr || std::strcmp(term, "dumb") != 0);
}

void setup_locale() {
    // Widths of characters need a UTF-8 table, whatever the locale is.
    if (std::setlocale(LC_CTYPE, "C.UTF-8") == nullptr) (void)std::setlocale(LC_CTYPE, "");
}

void print_json(const nlohmann::json& value, JsonMode mode) {
    fmt::print("{}\n", json_dump(value, mode == JsonMode::Pretty ? 4 : -1));
}

void print_table(
    const Table& table, const nlohmann::json& rows, std::string_view noun,
    const OutputOptions& options
) {
    if (options.json != JsonMode::Off) return print_json(rows, options.json);
    if (table.empty()) {
        if (options.legend && is_terminal(STDOUT_FILENO)) fmt::print("No {}.\n", noun);
        return;
    }
    auto text = table.format(options.legend, wants_color(STDOUT_FILENO));
    if (options.legend && is_terminal(STDOUT_FILENO))
        text += fmt::format("\n{} {} listed.\n", table.size(), noun);
    print_text(text, options);
}

void print_text(const std::string& text, const OutputOptions& options) {
    (void)std::fflush(stdout);
    if (options.pager && is_terminal(STDOUT_FILENO) && page_text(text)) return;
    fmt::print("{}", text);
}

namespace {
void print_line(std::string_view text, Color color) {
    // Only what begins a line of its own may: a daemon's hint after its message.
    std::string line = "thawctl: ";
    for (std::size_t begin = 0; begin <= text.size();) {
        const auto end = std::min(text.find('\n', begin), text.size());
        if (begin != 0) line += '\n';
        line += printable(text.substr(begin, end - begin));
        begin = end + 1;
    }
    fmt::print(stderr, "{}\n", wants_color(STDERR_FILENO) ? colored(color, line) : line);
}
} // namespace

void print_error(std::string_view text) {
    print_line(text, Color::Bad);
}
void print_warning(std::string_view text) {
    print_line(text, Color::Warning);
}
void print_hint(std::string_view text) {
    fmt::print(stderr, "{}\n", printable(text));
}

Color color_of_state(std::string_view state) {
    if (state == "running" || state == "serving" || state == "complete" || state == "done")
        return Color::Good;
    if (state == "failed" || state == "timeout" || state == "undoing") return Color::Bad;
    if (state == "canceled" || state == "stopping") return Color::Warning;
    return Color::None;
}

} // namespace thaw::ctl
