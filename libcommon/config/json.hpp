// SPDX-License-Identifier: MIT
#pragma once

// JSON from outside, without exceptions: nothing here throws into the caller, a missing or
// mistyped member is an Error that names it ("memory.page_size: expected an unsigned number").

#include "core/enum_table.hpp"
#include "core/error.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw {

// A read-only view of a value inside a JsonDocument (which must outlive it) that knows its own
// path.
class JsonView {
public:
    JsonView(const nlohmann::json* value, std::string path);

    bool is_object() const;
    bool is_array() const;
    // Member of an object; ENOENT when absent (null counts as absent).
    Result<JsonView> at(std::string_view member) const;
    bool has(std::string_view member) const;
    Result<std::vector<JsonView>> elements() const;
    std::vector<std::string> members() const;

    Result<std::string> as_string() const;
    Result<std::uint64_t> as_unsigned() const;
    Result<std::int64_t> as_integer() const;
    Result<bool> as_bool() const;

    // at() + as_*() in one step.
    Result<std::string> string(std::string_view member) const;
    Result<std::uint64_t> unsigned_number(std::string_view member) const;
    Result<bool> boolean(std::string_view member) const;
    Result<std::vector<std::string>> strings(std::string_view member) const;
    // A string that is one of the words of `table`.
    template <class E, std::size_t N>
    Result<E> word(std::string_view member, const EnumTable<E, N>& table) const {
        THAW_TRY(const auto text, string(member));
        if (const auto value = table.value(text)) return *value;
        return fail(EBADMSG, "{}: unknown word \"{}\"", member, text);
    }
    // Absent: the fallback. Present but mistyped: still an Error.
    Result<std::string> string_or(std::string_view member, std::string fallback) const;
    Result<std::uint64_t> unsigned_or(std::string_view member, std::uint64_t fallback) const;
    Result<bool> boolean_or(std::string_view member, bool fallback) const;

    const std::string& path() const { return path_; }

private:
    const nlohmann::json* value_;
    std::string path_;
};

class JsonDocument {
public:
    // EBADMSG with position for bad syntax. Nesting deeper than 32 levels is refused.
    static Result<JsonDocument> parse(std::string_view text);
    JsonDocument(JsonDocument&&) noexcept;
    JsonDocument& operator=(JsonDocument&&) noexcept;
    ~JsonDocument();
    JsonView root() const;

private:
    explicit JsonDocument(std::unique_ptr<nlohmann::json> value);
    std::unique_ptr<nlohmann::json> value_;
};

// Serialises; bytes that are not UTF-8 are replaced, never thrown about. indent < 0: one line.
std::string json_dump(const nlohmann::json& value, int indent = -1);

} // namespace thaw
