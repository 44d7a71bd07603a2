// SPDX-License-Identifier: MIT

// cancel, policy, pause, resume: short calls.

#include "api/restore1.hpp"
#include "client.hpp"
#include "exit_codes.hpp"
#include "verbs.hpp"

#include <array>
#include <limits>

namespace thaw::ctl {

namespace {

constexpr std::array kPolicyKeys{"MemoryBackend", "Prefetch", "Recording"};

Result<int> show_policy(Client& client, const std::string& key, const OutputOptions& options) {
    THAW_TRY(
        const auto manager,
        client.properties(restore1::kBusName, restore1::kPath, restore1::kManagerInterface)
    );
    nlohmann::json values = nlohmann::json::object();
    Table table({{"KEY"}, {"VALUE"}});
    for (const char* known : kPolicyKeys) {
        if (!key.empty() && key != known) continue;
        const auto found = manager.values.find(known);
        if (found == manager.values.end()) continue;
        values[known] = found->second;
        table.add(
            {known, found->second.is_boolean() ? (manager.flag(known) ? "yes" : "no")
                                               : manager.text(known)}
        );
    }
    if (options.json != JsonMode::Off) {
        print_json(values, options.json);
        return kExitOk;
    }
    print_text(table.format(options.legend, wants_color(1)), options);
    return kExitOk;
}

} // namespace

Result<int> verb_cancel(const std::string& id, const OutputOptions& options) {
    const auto number = parse_unsigned(id, std::numeric_limits<std::uint32_t>::max());
    if (!number) return fail(EINVAL, "'{}' is no job id", id);
    THAW_TRY(auto client, Client::open(options));
    THAW_CHECK(client.manager("CancelJob", "u", static_cast<std::uint32_t>(*number)));
    return kExitOk;
}

Result<int>
verb_policy(const std::string& key, const std::string& value, const OutputOptions& options) {
    const bool known =
        key.empty() || std::find(kPolicyKeys.begin(), kPolicyKeys.end(), key) != kPolicyKeys.end();
    if (!known)
        return fail(EINVAL, "policy '{}': expected MemoryBackend, Prefetch or Recording", key);
    if (value.empty()) {
        THAW_TRY(auto client, Client::open(options));
        return show_policy(client, key, options);
    }
    if (key == "MemoryBackend") {
        THAW_TRY(const auto backend, check_backend(value));
        THAW_TRY(auto client, Client::open(options));
        THAW_CHECK(client.manager("SetPolicy", "sv", key.c_str(), "s", backend.c_str()));
        return kExitOk;
    }
    const auto on = parse_bool(value);
    if (!on) return fail(EINVAL, "policy {}: '{}' is neither yes nor no", key, value);
    THAW_TRY(auto client, Client::open(options));
    THAW_CHECK(client.manager("SetPolicy", "sv", key.c_str(), "b", static_cast<int>(*on)));
    return kExitOk;
}

Result<int> verb_switch(Switch what, const std::string& name, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(auto reply, client.manager("GetInstance", "s", name.c_str()));
    const char* path = nullptr;
    THAW_CHECK(reply.read("o", &path));
    const char* method = what == Switch::Pause ? "Pause" : "Resume";
    THAW_CHECK(client.simple(restore1::kBusName, path, restore1::kInstanceInterface, method, ""));
    return kExitOk;
}

} // namespace thaw::ctl
