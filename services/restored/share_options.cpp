// SPDX-License-Identifier: MIT
#include "share_options.hpp"

#include "bus/properties.hpp"
#include "core/names.hpp"

#include <algorithm>

namespace thaw::restore {

namespace {

constexpr std::size_t kMostShares = 64;
constexpr std::size_t kMostTexts = 64;

template <class C, class T = C>
Result<ShareValue> read_value(BusMessage& message, const char* type) {
    C value{};
    THAW_CHECK(message.read("v", type, &value));
    return ShareValue(static_cast<T>(value));
}

Result<ShareValue> read_texts(BusMessage& message) {
    std::vector<std::string> texts;
    THAW_CHECK(message.enter_container('v', "as"));
    THAW_CHECK(message.enter_container('a', "s"));
    while (sd_bus_message_at_end(message.get(), 0) == 0) {
        const char* text = nullptr;
        THAW_CHECK(message.read("s", &text));
        if (texts.size() == kMostTexts) return fail(E2BIG, "more than {} values", kMostTexts);
        texts.emplace_back(text);
    }
    THAW_CHECK(message.exit_container());
    THAW_CHECK(message.exit_container());
    return ShareValue(std::move(texts));
}

Result<ShareValue> read_option(BusMessage& message) {
    const auto peeked = message.peek_variant();
    if (!peeked) return std::unexpected(Error(peeked.error()));
    const std::string_view type = *peeked;
    if (type == "b") {
        int flag = 0;
        THAW_CHECK(message.read("v", "b", &flag));
        return ShareValue(flag != 0);
    }
    if (type == "u") return read_value<std::uint32_t>(message, "u");
    if (type == "t") return read_value<std::uint64_t>(message, "t");
    if (type == "as") return read_texts(message);
    if (type != "s") return fail(EINVAL, "no option is of type {}", type);
    const char* text = nullptr;
    THAW_CHECK(message.read("v", "s", &text));
    return ShareValue(std::string(text));
}

Result<ShareRequest> read_request(BusMessage& message) {
    const char *tag = nullptr, *source = nullptr;
    THAW_CHECK(message.read("ss", &tag, &source));
    if (!is_valid_share_tag(tag)) return fail(EINVAL, "\"{}\" is no tag of a share", tag);
    ShareRequest request{.tag = tag, .source = source, .options = {}};
    auto walked = for_each_property(message, [&](std::string_view key) -> Result<> {
        if (key == "Unit" || key == "Reconnectable")
            return fail(EINVAL, "{} is not for the caller to say", key);
        auto value = read_option(message);
        if (!value) return std::unexpected(std::move(value).error().with_context(key));
        request.options.emplace_back(key, std::move(*value));
        return {};
    });
    if (!walked) return std::unexpected(std::move(walked).error());
    return request;
}

struct Append {
    BusMessage& message;
    const char* key;
    Result<> operator()(bool value) const {
        return message.append("{sv}", key, "b", static_cast<int>(value));
    }
    Result<> operator()(std::uint32_t value) const {
        return message.append("{sv}", key, "u", value);
    }
    Result<> operator()(std::uint64_t value) const {
        return message.append("{sv}", key, "t", value);
    }
    Result<> operator()(const std::string& value) const {
        return message.append("{sv}", key, "s", value.c_str());
    }
    Result<> operator()(const std::vector<std::string>& value) const {
        THAW_CHECK(message.open_container('e', "sv"));
        THAW_CHECK(message.append("s", key));
        THAW_CHECK(message.open_container('v', "as"));
        THAW_CHECK(message.open_container('a', "s"));
        for (const auto& text : value)
            if (auto done = message.append("s", text.c_str()); !done) return done;
        THAW_CHECK(message.close_container());
        THAW_CHECK(message.close_container());
        return message.close_container();
    }
};

} // namespace

Result<std::vector<ShareRequest>> read_share_requests(BusMessage& message) {
    std::vector<ShareRequest> requests;
    THAW_CHECK(message.enter_container('v', "a(ssa{sv})"));
    THAW_CHECK(message.enter_container('a', "(ssa{sv})"));
    while (true) {
        THAW_TRY(const bool more, message.enter_container('r', "ssa{sv}"));
        if (!more) break;
        THAW_TRY(auto request, read_request(message));
        const auto same = [&request](const ShareRequest& other) {
            return other.tag == request.tag;
        };
        if (std::ranges::any_of(requests, same))
            return fail(EINVAL, "two shares have the tag \"{}\"", request.tag);
        if (requests.size() == kMostShares) return fail(E2BIG, "more than {} shares", kMostShares);
        requests.push_back(std::move(request));
        THAW_CHECK(message.exit_container());
    }
    THAW_CHECK(message.exit_container());
    THAW_CHECK(message.exit_container());
    return requests;
}

Result<> append_share_request(
    BusMessage& message, const std::string& vm, const std::string& unit, const ShareRequest& request
) {
    THAW_CHECK(message.append("sss", vm.c_str(), request.tag.c_str(), request.source.c_str()));
    THAW_CHECK(message.open_container('a', "{sv}"));
    THAW_CHECK(message.append("{sv}", "Unit", "s", unit.c_str()));
    for (const auto& [key, value] : request.options)
        if (auto done = std::visit(Append{message, key.c_str()}, value); !done) return done;
    THAW_CHECK(message.close_container());
    return message.append("t", std::uint64_t{0});
}

} // namespace thaw::restore
