// SPDX-License-Identifier: MIT
#include "share_options.hpp"

#include "bus/errors.hpp"
#include "bus/properties.hpp"

#include <algorithm>
#include <array>

namespace thaw::sharesd {

namespace {

constexpr std::uint64_t kLowestLimit = 64;
constexpr std::uint64_t kHighestLimit = 1 << 30; // fs.nr_open can be no more
constexpr std::uint64_t kLowestMemory = 1 << 20;
constexpr std::uint64_t kMostThreads = 1024;
constexpr std::size_t kMostMaps = 32;
constexpr std::size_t kLongestAccount = 31;
constexpr std::size_t kLongestUnit = 255;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_number(std::string_view text) {
    return !text.empty() && text.size() <= 10 && std::ranges::all_of(text, is_digit);
}

Result<> read_flag(BusMessage& message, bool& target) {
    int value = 0;
    THAW_CHECK(message.read("v", "b", &value));
    target = value != 0;
    return {};
}

template <class E, std::size_t N>
Result<> read_word(BusMessage& message, const EnumTable<E, N>& names, E& target) {
    const char* text = nullptr;
    THAW_CHECK(message.read("v", "s", &text));
    const auto value = names.value(text);
    if (!value) return fail(EINVAL, "unknown word \"{}\"", text);
    target = *value;
    return {};
}

Result<>
read_number(BusMessage& message, std::uint64_t least, std::uint64_t most, std::uint64_t& target) {
    THAW_CHECK(message.read("v", "t", &target));
    if (target < least || target > most)
        return fail(ERANGE, "{} is not between {} and {}", target, least, most);
    return {};
}

Result<> read_text(BusMessage& message, bool (*valid)(std::string_view), std::string& target) {
    const char* text = nullptr;
    THAW_CHECK(message.read("v", "s", &text));
    if (*text != '\0' && !valid(text)) return fail(EINVAL, "bad value \"{}\"", text);
    target = text;
    return {};
}

Result<> read_maps(BusMessage& message, std::vector<std::string>& target) {
    target.clear();
    THAW_CHECK(message.enter_container('v', "as"));
    THAW_CHECK(message.enter_container('a', "s"));
    while (sd_bus_message_at_end(message.get(), 0) == 0) {
        const char* map = nullptr;
        THAW_CHECK(message.read("s", &map));
        if (!is_valid_id_map(map)) return fail(EINVAL, "bad id map \"{}\"", map);
        if (target.size() == kMostMaps) return fail(E2BIG, "more than {} id maps", kMostMaps);
        target.emplace_back(map);
    }
    THAW_CHECK(message.exit_container());
    return message.exit_container();
}

Result<> read_threads(BusMessage& message, std::uint64_t& target) {
    std::uint32_t value = 0;
    THAW_CHECK(message.read("v", "u", &value));
    if (value > kMostThreads) return fail(ERANGE, "more than {} threads", kMostThreads);
    target = value;
    return {};
}

Result<> read_option(BusMessage& message, std::string_view key, ShareOptions& options) {
    struct Flag {
        std::string_view key;
        bool ShareOptions::* target;
    };
    constexpr std::array kFlags{
        Flag{"ReadOnly", &ShareOptions::read_only},
        Flag{"Xattr", &ShareOptions::xattr},
        Flag{"PosixAcl", &ShareOptions::posix_acl},
        Flag{"AllowMmap", &ShareOptions::allow_mmap},
        Flag{"Writeback", &ShareOptions::writeback},
        Flag{"OfferTag", &ShareOptions::offer_tag},
        Flag{"Reconnectable", &ShareOptions::reconnectable},
    };
    for (const auto& flag : kFlags)
        if (key == flag.key) return read_flag(message, options.*flag.target);
    if (key == "Unit") return read_text(message, is_valid_unit, options.vm_unit);
    if (key == "InodeFileHandles") return read_word(message, kHandleModeNames, options.handles);
    if (key == "LimitNOFILE")
        return read_number(message, kLowestLimit, kHighestLimit, options.limit);
    if (key == "OnLowLimit") return read_word(message, kOnLowLimitNames, options.on_low_limit);
    if (key == "MemoryHigh")
        return read_number(message, kLowestMemory, kInfinity, options.memory_high);
    if (key == "Cache") return read_word(message, kCacheModeNames, options.cache);
    if (key == "Sandbox") {
        options.sandbox_chosen = true;
        return read_word(message, kSandboxNames, options.sandbox);
    }
    if (key == "User") return read_text(message, is_valid_account, options.user);
    if (key == "SocketUser") return read_text(message, is_valid_account, options.socket_user);
    if (key == "SocketGroup") return read_text(message, is_valid_account, options.socket_group);
    if (key == "TranslateUid") return read_maps(message, options.translate_uid);
    if (key == "TranslateGid") return read_maps(message, options.translate_gid);
    if (key == "ThreadPoolSize") return read_threads(message, options.threads);
    if (key == "OnLoss") return read_word(message, kOnLossNames, options.on_loss);
    return fail(EINVAL, "unknown option");
}

// What contradicts itself, whatever the machine and the daemon can do.
Result<> check_options(ShareOptions& options) {
    if (options.user == "root" || options.user == "0") options.user.clear();
    if (!options.user.empty()) {
        // Without privilege a namespace sandbox breaks O_CREAT in the guest; the unit's own sandbox
        // is what holds then.
        if (!options.sandbox_chosen) options.sandbox = Sandbox::None;
        if (options.sandbox != Sandbox::None)
            return fail(EINVAL, "User={} goes with Sandbox=none only", options.user);
    }
    const bool translates = !options.translate_uid.empty() || !options.translate_gid.empty();
    if (translates && options.posix_acl)
        return fail(EINVAL, "PosixAcl does not go with translated ids");
    return {};
}

} // namespace

bool is_valid_account(std::string_view name) {
    if (is_number(name)) return true;
    if (name.empty() || name.size() > kLongestAccount) return false;
    if (!is_letter(name.front()) && name.front() != '_') return false;
    return std::ranges::all_of(name, [](char c) {
        return is_letter(c) || is_digit(c) || c == '_' || c == '-';
    });
}

bool is_valid_id_map(std::string_view map) {
    const auto colon = map.find(':');
    if (colon == std::string_view::npos) return false;
    constexpr std::array kKinds{"guest",       "host",         "squash-guest",
                                "squash-host", "forbid-guest", "map"};
    if (std::ranges::find(kKinds, map.substr(0, colon)) == kKinds.end()) return false;
    // Two numbers (a range that is forbidden) or three.
    std::size_t numbers = 0;
    for (auto rest = map.substr(colon + 1);; ++numbers) {
        const auto end = rest.find(':');
        if (!is_number(rest.substr(0, end))) return false;
        if (end == std::string_view::npos) break;
        rest.remove_prefix(end + 1);
    }
    return numbers == 1 || numbers == 2;
}

bool is_valid_unit(std::string_view name) {
    if (name.size() > kLongestUnit || !name.ends_with(".service")) return false;
    return std::ranges::all_of(name, [](char c) {
        return is_letter(c) || is_digit(c) || std::string_view(":-_.\\@").contains(c);
    });
}

Result<ShareOptions> read_options(BusMessage& message, const ShareOptions& defaults) {
    ShareOptions options = defaults;
    auto walked = for_each_property(message, [&](std::string_view key) -> Result<> {
        if (auto done = read_option(message, key, options); !done)
            return std::unexpected(
                std::move(done).error().with_context(key).with_bus_name(kErrorInvalidArgs)
            );
        return {};
    });
    if (!walked) return std::unexpected(std::move(walked).error());
    if (auto done = check_options(options); !done)
        return std::unexpected(std::move(done).error().with_bus_name(kErrorInvalidArgs));
    return options;
}

} // namespace thaw::sharesd
