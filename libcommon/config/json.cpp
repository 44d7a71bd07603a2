// SPDX-License-Identifier: MIT
#include "config/json.hpp"

#include <nlohmann/json.hpp>

namespace thaw {

namespace {

using nlohmann::json;

std::unexpected<Error> mistyped(const std::string& path, std::string_view expected) {
    return fail(EBADMSG, "{}: expected {}", path.empty() ? "document" : path, expected);
}

// A value that may be missing: the fallback for ENOENT of at(), everything else stays an error.
template <class T, class Convert>
Result<T> value_or(const Result<JsonView>& member, T fallback, Convert convert) {
    if (member) return convert(*member);
    if (member.error().code() == ENOENT) return fallback;
    return std::unexpected(member.error());
}

} // namespace

JsonView::JsonView(const json* value, std::string path) : value_(value), path_(std::move(path)) {
    THAW_INVARIANT(value_ != nullptr);
}

bool JsonView::is_object() const {
    return value_->is_object();
}

bool JsonView::is_array() const {
    return value_->is_array();
}

Result<JsonView> JsonView::at(std::string_view member) const {
    if (!value_->is_object()) return mistyped(path_, "an object");
    std::string path = path_.empty() ? std::string(member) : fmt::format("{}.{}", path_, member);
    const auto found = value_->find(member);
    if (found == value_->end() || found->is_null()) return fail(ENOENT, "{}: missing", path);
    return JsonView(&*found, std::move(path));
}

bool JsonView::has(std::string_view member) const {
    return at(member).has_value();
}

Result<std::vector<JsonView>> JsonView::elements() const {
    if (!value_->is_array()) return mistyped(path_, "an array");
    std::vector<JsonView> views;
    views.reserve(value_->size());
    for (std::size_t i = 0; i < value_->size(); ++i)
        views.emplace_back(&(*value_)[i], fmt::format("{}[{}]", path_, i));
    return views;
}

std::vector<std::string> JsonView::members() const {
    std::vector<std::string> names;
    if (value_->is_object())
        for (const auto& item : value_->items())
            names.push_back(item.key());
    return names;
}

Result<std::string> JsonView::as_string() const {
    const auto* text = value_->get_ptr<const json::string_t*>();
    if (!text) return mistyped(path_, "a string");
    return *text;
}

Result<std::uint64_t> JsonView::as_unsigned() const {
    if (value_->is_number_unsigned()) return value_->get<std::uint64_t>();
    // Documents that were built, not parsed, hold positive numbers as signed ones too.
    if (value_->is_number_integer() && value_->get<std::int64_t>() >= 0)
        return static_cast<std::uint64_t>(value_->get<std::int64_t>());
    return mistyped(path_, "an unsigned number");
}

Result<std::int64_t> JsonView::as_integer() const {
    if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > INT64_MAX)
        return fail(ERANGE, "{}: too large", path_.empty() ? "document" : path_);
    if (value_->is_number_integer()) return value_->get<std::int64_t>();
    return mistyped(path_, "an integer");
}

Result<bool> JsonView::as_bool() const {
    const auto* flag = value_->get_ptr<const json::boolean_t*>();
    if (!flag) return mistyped(path_, "true or false");
    return *flag;
}

Result<std::string> JsonView::string(std::string_view member) const {
    THAW_TRY(const JsonView view, at(member));
    return view.as_string();
}

Result<std::uint64_t> JsonView::unsigned_number(std::string_view member) const {
    THAW_TRY(const JsonView view, at(member));
    return view.as_unsigned();
}

Result<bool> JsonView::boolean(std::string_view member) const {
    THAW_TRY(const JsonView view, at(member));
    return view.as_bool();
}

Result<std::vector<std::string>> JsonView::strings(std::string_view member) const {
    THAW_TRY(const JsonView array, at(member));
    THAW_TRY(const auto views, array.elements());
    std::vector<std::string> texts;
    for (const auto& view : views) {
        THAW_TRY(auto text, view.as_string());
        texts.push_back(std::move(text));
    }
    return texts;
}

Result<std::string> JsonView::string_or(std::string_view member, std::string fallback) const {
    return value_or(at(member), std::move(fallback), [](const JsonView& view) {
        return view.as_string();
    });
}

Result<std::uint64_t> JsonView::unsigned_or(std::string_view member, std::uint64_t fallback) const {
    return value_or(at(member), fallback, [](const JsonView& view) { return view.as_unsigned(); });
}

Result<bool> JsonView::boolean_or(std::string_view member, bool fallback) const {
    return value_or(at(member), fallback, [](const JsonView& view) { return view.as_bool(); });
}

JsonDocument::JsonDocument(std::unique_ptr<json> value) : value_(std::move(value)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

JsonView JsonDocument::root() const {
    return {value_.get(), ""};
}

std::string json_dump(const json& value, int indent) {
    return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

} // namespace thaw
