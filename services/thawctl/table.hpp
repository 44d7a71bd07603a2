// SPDX-License-Identifier: MIT
#pragma once

// Text tables with aligned columns, for terminals and for cut(1).

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::ctl {

// Columns that a terminal needs for UTF-8 text; bytes that are no UTF-8 count as one each.
std::size_t display_width(std::string_view text);
// The text with control characters and broken UTF-8 replaced by '?', so that foreign strings
// cannot drive the terminal.
std::string printable(std::string_view text);

enum class Color { None, Good, Warning, Bad, Faint, Bold };
// `text` in the colour; as it is for Color::None.
std::string colored(Color color, std::string_view text);

enum class Align { Left, Right };

class Table {
public:
    struct Column {
        std::string title;
        Align align = Align::Left;
    };
    struct Cell {
        Cell(std::string t, Color c = Color::None) : text(std::move(t)), color(c) {}
        Cell(const char* t) : text(t) {}
        std::string text;
        Color color = Color::None;
    };

    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    // As many cells as columns; empty ones show as "-".
    void add(std::vector<Cell> row);
    bool empty() const { return rows_.empty(); }
    std::size_t size() const { return rows_.size(); }
    std::string format(bool header, bool colors) const;

private:
    std::vector<Column> columns_;
    std::vector<std::vector<Cell>> rows_;
};

} // namespace thaw::ctl
