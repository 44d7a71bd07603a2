// SPDX-License-Identifier: MIT
#include "bus/json_value.hpp"

#include <nlohmann/json.hpp>

#include <vector>

namespace thaw {

namespace {

constexpr unsigned kDeepest = 64; // what D-Bus allows

Result<nlohmann::json> read_any(BusMessage& message, const std::string& type, unsigned depth);

template <class T>
Result<nlohmann::json> read_number(BusMessage& message, char type) {
    T value{};
    THAW_CHECK(message.read(std::string(1, type).c_str(), &value));
    return nlohmann::json(value);
}

Result<nlohmann::json> read_basic(BusMessage& message, char type) {
    switch (type) {
    case 's':
    case 'o':
    case 'g': {
        const char* value = nullptr;
        THAW_CHECK(message.read(std::string(1, type).c_str(), &value));
        return nlohmann::json(value);
    }
    case 'b': {
        int value = 0;
        THAW_CHECK(message.read("b", &value));
        return nlohmann::json(value != 0);
    }
    case 'y':
        return read_number<std::uint8_t>(message, type);
    case 'n':
        return read_number<std::int16_t>(message, type);
    case 'q':
        return read_number<std::uint16_t>(message, type);
    case 'i':
        return read_number<std::int32_t>(message, type);
    case 'u':
        return read_number<std::uint32_t>(message, type);
    case 'x':
        return read_number<std::int64_t>(message, type);
    case 't':
        return read_number<std::uint64_t>(message, type);
    case 'd':
        return read_number<double>(message, type);
    default:
        return fail(EBADMSG, "a value of type '{}'", type);
    }
}

// Length of the first complete type in `types`; 0 when it is none.
std::size_t complete_type(const std::string& types, std::size_t from = 0) {
    std::size_t at = from;
    while (at < types.size() && types[at] == 'a')
        ++at;
    if (at >= types.size()) return 0;
    if (types[at] != '(' && types[at] != '{') return at + 1 - from;
    unsigned open = 0;
    for (; at < types.size(); ++at) {
        if (types[at] == '(' || types[at] == '{') ++open;
        if ((types[at] == ')' || types[at] == '}') && --open == 0) return at + 1 - from;
    }
    return 0;
}

Result<nlohmann::json> read_members(BusMessage& message, const std::string& types, unsigned depth) {
    auto members = nlohmann::json::array();
    for (std::size_t at = 0; at < types.size();) {
        const auto length = complete_type(types, at);
        if (length == 0) return fail(EBADMSG, "signature '{}'", types);
        THAW_TRY(auto value, read_any(message, types.substr(at, length), depth));
        members.push_back(std::move(value));
        at += length;
    }
    return members;
}

Result<nlohmann::json>
read_dictionary(BusMessage& message, const std::string& entry, unsigned depth) {
    auto object = nlohmann::json::object();
    for (;;) {
        THAW_TRY(const bool more, message.enter_container('e', entry.c_str()));
        if (!more) return object;
        THAW_TRY(const auto members, read_members(message, entry, depth));
        const auto& key = members[0];
        object[key.is_string() ? key.get<std::string>() : key.dump()] = members[1];
        THAW_CHECK(message.exit_container());
    }
}

Result<nlohmann::json>
read_elements(BusMessage& message, const std::string& element, unsigned depth) {
    auto list = nlohmann::json::array();
    while (sd_bus_message_at_end(message.get(), 0) == 0) {
        THAW_TRY(auto value, read_any(message, element, depth));
        list.push_back(std::move(value));
    }
    return list;
}

Result<nlohmann::json> read_array(BusMessage& message, const std::string& element, unsigned depth) {
    THAW_CHECK(message.enter_container('a', element.c_str()));
    auto values = element.starts_with('{')
                      ? read_dictionary(message, element.substr(1, element.size() - 2), depth)
                      : read_elements(message, element, depth);
    if (!values) return values;
    THAW_CHECK(message.exit_container());
    return values;
}

Result<nlohmann::json> read_any(BusMessage& message, const std::string& type, unsigned depth) {
    if (depth > kDeepest) return fail(EBADMSG, "values nested too deep");
    if (type == "v") {
        THAW_TRY(const auto held, message.peek_variant());
        THAW_CHECK(message.enter_container('v', held.c_str()));
        auto value = read_any(message, held, depth + 1);
        if (!value) return value;
        THAW_CHECK(message.exit_container());
        return value;
    }
    if (type.size() == 1) return read_basic(message, type[0]);
    if (type.starts_with('a')) return read_array(message, type.substr(1), depth + 1);
    if (!type.starts_with('(')) return fail(EBADMSG, "a value of type '{}'", type);
    const auto members = type.substr(1, type.size() - 2);
    THAW_CHECK(message.enter_container('r', members.c_str()));
    auto value = read_members(message, members, depth + 1);
    if (!value) return value;
    THAW_CHECK(message.exit_container());
    return value;
}

} // namespace

Result<nlohmann::json> read_json_value(BusMessage& message, const std::string& type) {
    return read_any(message, type, 0);
}

Result<nlohmann::json> read_json_variant(BusMessage& message) {
    return read_any(message, "v", 0);
}

Result<std::map<std::string, nlohmann::json>> read_json_properties(BusMessage& message) {
    THAW_TRY(const auto object, read_any(message, "a{sv}", 0));
    return object.get<std::map<std::string, nlohmann::json>>();
}

Result<std::vector<ManagedObject>> read_managed_objects(BusMessage& message) {
    THAW_TRY(const auto tree, read_any(message, "a{oa{sa{sv}}}", 0));
    std::vector<ManagedObject> objects;
    for (const auto& [path, interfaces] : tree.items())
        objects.push_back({path, interfaces.get<decltype(ManagedObject::interfaces)>()});
    return objects;
}

} // namespace thaw
