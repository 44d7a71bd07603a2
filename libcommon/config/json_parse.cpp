// SPDX-License-Identifier: MIT
// From text to a document: what a parser for strangers' input must refuse.
#include "config/json.hpp"
#include "core/text.hpp"

#include <nlohmann/json.hpp>

#include <set>

namespace thaw {

namespace {

using nlohmann::json;

constexpr std::size_t kMaxDepth = 32;

// The library's own text without "[json.exception...] "; the piece of input it quotes may hold any
// bytes, but the message goes to the bus.
std::string readable(std::string_view what) {
    const auto prefix = what.find("] ");
    if (what.starts_with("[json.exception") && prefix != std::string_view::npos)
        what.remove_prefix(prefix + 2);
    std::string text(what);
    if (!is_valid_utf8(text))
        for (char& c : text)
            if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    return text;
}

// First pass over the text: builds nothing, so that what is refused costs no memory. A member that
// comes twice is refused, because two readers could see two different values in one file.
class Checker : public nlohmann::json_sax<json> {
public:
    std::string error;

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(std::size_t) override { return enter(); }
    bool end_object() override { return leave(); }
    bool start_array(std::size_t) override { return enter(); }
    bool end_array() override { return leave(); }
    bool key(string_t& name) override {
        if (members_.back().insert(name).second) return true;
        error = fmt::format("member \"{}\" comes twice", name);
        return false;
    }
    bool parse_error(std::size_t, const std::string&, const json::exception& problem) override {
        error = readable(problem.what());
        return false;
    }

private:
    bool enter() {
        members_.emplace_back();
        if (members_.size() <= kMaxDepth) return true;
        error = fmt::format("nested deeper than {} levels", kMaxDepth);
        return false;
    }
    bool leave() {
        members_.pop_back();
        return true;
    }

    std::vector<std::set<std::string>> members_; // one per open object or array
};

} // namespace

Result<JsonDocument> JsonDocument::parse(std::string_view text) {
    // The library takes a NUL for the end and would not look at what follows.
    if (text.find('\0') != std::string_view::npos) return fail(EBADMSG, "bad JSON: a NUL byte");
    Checker checker;
    if (!json::sax_parse(text, &checker)) return fail(EBADMSG, "bad JSON: {}", checker.error);
    auto value = std::make_unique<json>(json::parse(text, nullptr, /*allow_exceptions=*/false));
    if (value->is_discarded()) return fail(EBADMSG, "bad JSON");
    return JsonDocument(std::move(value));
}

} // namespace thaw
