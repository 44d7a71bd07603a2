// SPDX-License-Identifier: MIT

#include "table.hpp"

#include "core/error.hpp"

#include <wchar.h>

#include <algorithm>
#include <optional>

namespace thaw::ctl {

namespace {

constexpr std::size_t kGap = 2;

struct Character {
    char32_t code;
    std::size_t bytes;
};

// The first character of `text`; none for broken UTF-8 (overlong forms and surrogates included).
std::optional<Character> decode(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text[0]);
    if (lead < 0x80) return Character{lead, 1};
    const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return std::nullopt;
    char32_t code = lead & (0xffU >> (bytes + 1));
    for (std::size_t i = 1; i < bytes; i++) {
        const auto next = static_cast<unsigned char>(text[i]);
        if ((next & 0xc0) != 0x80) return std::nullopt;
        code = (code << 6) | (next & 0x3fU);
    }
    constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[bytes] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return std::nullopt;
    return Character{code, bytes};
}

std::size_t width_of(char32_t code) {
    const int width = wcwidth(static_cast<wchar_t>(code));
    return width < 0 ? 1 : static_cast<std::size_t>(width);
}

bool is_control(char32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

const char* escape_of(Color color) {
    switch (color) {
    case Color::Good:
        return "\x1b[0;32m";
    case Color::Warning:
        return "\x1b[0;33m";
    case Color::Bad:
        return "\x1b[0;1;31m";
    case Color::Faint:
        return "\x1b[0;90m";
    case Color::Bold:
        return "\x1b[0;1m";
    case Color::None:
        break;
    }
    return "";
}

} // namespace

std::size_t display_width(std::string_view text) {
    std::size_t width = 0;
    while (!text.empty()) {
        const auto character = decode(text);
        width += character ? width_of(character->code) : 1;
        text.remove_prefix(character ? character->bytes : 1);
    }
    return width;
}

std::string printable(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto character = decode(text);
        const std::size_t bytes = character ? character->bytes : 1;
        if (character && !is_control(character->code))
            out.append(text.substr(0, bytes));
        else
            out.push_back('?');
        text.remove_prefix(bytes);
    }
    return out;
}

std::string colored(Color color, std::string_view text) {
    if (color == Color::None) return std::string(text);
    return fmt::format("{}{}\x1b[0m", escape_of(color), text);
}

void Table::add(std::vector<Cell> row) {
    THAW_INVARIANT(row.size() == columns_.size());
    for (auto& cell : row)
        cell.text = cell.text.empty() ? "-" : printable(cell.text);
    rows_.push_back(std::move(row));
}

std::string Table::format(bool header, bool colors) const {
    std::vector<std::size_t> widths(columns_.size(), 0);
    for (std::size_t i = 0; i < columns_.size(); i++) {
        if (header) widths[i] = display_width(columns_[i].title);
        for (const auto& row : rows_)
            widths[i] = std::max(widths[i], display_width(row[i].text));
    }
    std::string out;
    const auto put = [&](std::size_t i, const std::string& text, Color color) {
        const std::string fill(widths[i] - display_width(text), ' ');
        const bool last = i + 1 == columns_.size();
        if (columns_[i].align == Align::Right) out += fill;
        out += colors ? colored(color, text) : text;
        if (columns_[i].align == Align::Left && !last) out += fill;
        out += last ? "\n" : std::string(kGap, ' ');
    };
    if (header)
        for (std::size_t i = 0; i < columns_.size(); i++)
            put(i, columns_[i].title, Color::Bold);
    for (const auto& row : rows_)
        for (std::size_t i = 0; i < columns_.size(); i++)
            put(i, row[i].text, row[i].color);
    return out;
}

} // namespace thaw::ctl
