// SPDX-License-Identifier: MIT
#include "policy.hpp"

#include "config/json.hpp"

#include <nlohmann/json.hpp>

namespace thaw::restore {

Policy policy_of(const Config& config) {
    return {config.memory_backend, config.prefetch, config.recording};
}

std::string format_policy(const Policy& policy) {
    const nlohmann::json value{
        {"memory_backend", kBackendNames.name(policy.memory_backend)},
        {"prefetch", policy.prefetch},
        {"recording", policy.recording},
    };
    return json_dump(value) + "\n";
}

std::string describe_difference(const Policy& kept, const Policy& configured) {
    std::string text;
    const auto compare = [&text](std::string_view key, std::string_view is, std::string_view was) {
        if (is == was) return;
        text += fmt::format("{}{}={} (configured: {})", text.empty() ? "" : ", ", key, is, was);
    };
    const auto word = [](bool on) { return on ? "yes" : "no"; };
    compare(
        "MemoryBackend", kBackendNames.name(kept.memory_backend),
        kBackendNames.name(configured.memory_backend)
    );
    compare("Prefetch", word(kept.prefetch), word(configured.prefetch));
    compare("Recording", word(kept.recording), word(configured.recording));
    return text;
}

Result<Policy> parse_policy(std::string_view text, const Policy& fallback) {
    THAW_TRY(const auto document, JsonDocument::parse(text));
    const auto root = document.root();
    Policy policy;
    THAW_TRY(
        const auto word,
        root.string_or("memory_backend", std::string(kBackendNames.name(fallback.memory_backend)))
    );
    THAW_TRY(policy.memory_backend, parse_backend(word));
    THAW_TRY(policy.prefetch, root.boolean_or("prefetch", fallback.prefetch));
    THAW_TRY(policy.recording, root.boolean_or("recording", fallback.recording));
    return policy;
}

} // namespace thaw::restore
