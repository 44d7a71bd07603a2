// SPDX-License-Identifier: MIT
#include "profile.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <functional>
#include <stdexcept>

namespace thaw::standin {
namespace {

using nlohmann::json;

const std::set<std::string>& fault_names() {
    static const std::set<std::string> names = {"never_connect",     "connect_but_send_nothing",
                                                "malformed_json",    "huge_json",
                                                "truncated_json",    "overlapping_regions",
                                                "unaligned_regions", "wrong_offsets",
                                                "sum_mismatch",      "no_fd",
                                                "fd_not_uffd",       "early_eof",
                                                "hang_in_load",      "no_api",
                                                "ignore_sigterm"};
    return names;
}

/// "1.7" or "main" to the minor version.
unsigned generation_of(const std::string& name) {
    if (name == "main") {
        return Profile{}.generation;
    }
    unsigned minor = 0;
    const char* end = name.data() + name.size();
    if (!name.starts_with("1.") || std::from_chars(name.data() + 2, end, minor).ptr != end ||
        minor == 0) {
        throw std::invalid_argument("must be 1.N or main");
    }
    return minor;
}

void set_die_at(Profile& profile, const std::string& value) {
    static const std::set<std::string> moments = {"exec",       "before-connect", "after-connect",
                                                  "after-send", "after-load",     "on-resume"};
    profile.die_at = value;
    if (value.starts_with("after-ms:")) {
        profile.die_at = "after-ms";
        profile.die_after_ms = static_cast<unsigned>(std::stoul(value.substr(9)));
    } else if (!moments.contains(value)) {
        throw std::invalid_argument("unknown moment");
    }
}

void set_sigbus(Profile& profile, const std::string& value) {
    if (value != "die" && value != "count") {
        throw std::invalid_argument("must be die or count");
    }
    profile.count_sigbus = value == "count";
}

void set_guest(Profile& profile, const json& value) {
    if (auto done = update_parameters(profile.guest, value); !done) {
        throw std::invalid_argument(done.error());
    }
    profile.guest_json = value;
}

void set_split(Profile& profile, const json& value) {
    value.at("pieces").get_to(profile.split_pieces);
    value.at("delay_ms").get_to(profile.split_delay_ms);
    if (profile.split_pieces == 0 || value.size() != 2) {
        throw std::invalid_argument("needs pieces > 0 and delay_ms, nothing else");
    }
}

using Setter = std::function<void(Profile&, const json&)>;

const std::map<std::string, Setter>& setters() {
    static const std::map<std::string, Setter> table = {
        {"generation",
         [](Profile& p, const json& v) {
             p.generation_name = v.get<std::string>();
             p.generation = generation_of(p.generation_name);
         }},
        {"vmm_version", [](Profile& p, const json& v) { v.get_to(p.vmm_version); }},
        {"descriptors", [](Profile& p, const json& v) { v.get_to(p.descriptors); }},
        {"huge_json_bytes", [](Profile& p, const json& v) { v.get_to(p.huge_json_bytes); }},
        {"split_body", set_split},
        {"load_error", [](Profile& p, const json& v) { v.get_to(p.load_error); }},
        {"resume_error", [](Profile& p, const json& v) { v.get_to(p.resume_error); }},
        {"api_error", [](Profile& p, const json& v) { v.get_to(p.api_error); }},
        {"slow_load_ms", [](Profile& p, const json& v) { v.get_to(p.slow_load_ms); }},
        {"api_delay_ms", [](Profile& p, const json& v) { v.get_to(p.api_delay_ms); }},
        {"die_at", [](Profile& p, const json& v) { set_die_at(p, v.get<std::string>()); }},
        {"die_exit_code", [](Profile& p, const json& v) { v.get_to(p.die_exit_code); }},
        {"die_signal", [](Profile& p, const json& v) { p.die_signal = v.get<int>(); }},
        {"exit_delay_ms", [](Profile& p, const json& v) { p.exit_delay_ms = v.get<unsigned>(); }},
        {"sigbus", [](Profile& p, const json& v) { set_sigbus(p, v.get<std::string>()); }},
        {"device_touch_pages", [](Profile& p, const json& v) { v.get_to(p.device_touch_pages); }},
        {"vm_config", [](Profile& p, const json& v) { p.vm_config = v; }},
        {"guest", set_guest},
    };
    return table;
}

} // namespace

std::string Profile::version() const {
    if (!vmm_version.empty()) {
        return vmm_version;
    }
    return generation_name == "main" ? "1.17.0-dev" : generation_name + ".0";
}

Result<Profile> parse_profile(const std::string& text) {
    const json document = json::parse(text, nullptr, false);
    if (!document.is_object()) {
        return fail("profile: not a JSON object");
    }
    Profile profile;
    for (const auto& [key, value] : document.items()) {
        try {
            if (fault_names().contains(key)) {
                if (value.get<bool>()) {
                    profile.faults.insert(key);
                }
                continue;
            }
            const auto setter = setters().find(key);
            if (setter == setters().end()) {
                return fail(fmt::format("profile: unknown key '{}'", key));
            }
            setter->second(profile, value);
        } catch (const std::exception& error) {
            return fail(fmt::format("profile: {}: {}", key, error.what()));
        }
    }
    if (profile.descriptors == 0 || profile.descriptors > 200) {
        return fail("profile: descriptors: must be 1 to 200 (see no_fd)");
    }
    return profile;
}

Result<Profile> load_profile(const std::string& path) {
    // One template unit names a profile per VM; a VM without one is well-behaved.
    if (::access(path.c_str(), F_OK) < 0 && errno == ENOENT) {
        return Profile{};
    }
    auto text = read_file(path);
    if (!text) {
        return fail(fmt::format("profile {}: {}", path, text.error()));
    }
    return parse_profile(*text);
}

} // namespace thaw::standin
