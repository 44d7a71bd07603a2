// SPDX-License-Identifier: MIT
#pragma once

// Words for enums that reach the bus, the journal or a file.
//
//   inline constexpr EnumTable kColorNames{std::array{std::pair{Color::Red, "red"sv}, ...}};
//   kColorNames.name(Color::Red); kColorNames.value("red");

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace thaw {

template <class E, std::size_t N>
class EnumTable {
public:
    explicit constexpr EnumTable(std::array<std::pair<E, std::string_view>, N> rows)
        : rows_(rows) {}

    // "invalid" for a value that is not in the table.
    constexpr std::string_view name(E value) const {
        for (const auto& [key, word] : rows_)
            if (key == value) return word;
        return "invalid";
    }
    constexpr std::optional<E> value(std::string_view name) const {
        for (const auto& [key, word] : rows_)
            if (word == name) return key;
        return std::nullopt;
    }
    // "red, green or blue", for messages.
    std::string alternatives() const {
        std::string text;
        for (std::size_t i = 0; i < N; ++i) {
            if (i > 0) text += i + 1 < N ? ", " : " or ";
            text += rows_[i].second;
        }
        return text;
    }
    constexpr const auto& rows() const { return rows_; }

private:
    std::array<std::pair<E, std::string_view>, N> rows_;
};

} // namespace thaw
