// SPDX-License-Identifier: MIT
#include "action_policy.hpp"

namespace thaw::diskguard {

Writers decide_writers(Writers policy, Writers current, Level level, Level without_reserve) {
    if (policy == Writers::Continue) return Writers::Continue;
    if (level == Level::Full) return Writers::Pause;
    // Unknown: what was decided stays until somebody has looked.
    if (level == Level::Unknown || without_reserve >= Level::Critical) return current;
    return Writers::Continue;
}

bool wants_release(const AutoRelease& question, Microseconds now) {
    if (question.policy != ReleasePolicy::Auto || question.level != Level::Full) return false;
    if (question.releasable == 0 || !question.writers_stopped) return false;
    return !question.last || now - *question.last >= question.cooldown;
}

std::string path_escape(std::string_view path) {
    std::string parts;
    for (const char c : path) {
        // Slashes that repeat count once, those at the ends not at all.
        if (c == '/' && (parts.empty() || parts.back() == '/')) continue;
        parts += c;
    }
    if (!parts.empty() && parts.back() == '/') parts.pop_back();
    if (parts.empty()) return "-";
    std::string escaped;
    for (const char c : parts) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == ':' || c == '_' ||
                           (c == '.' && !escaped.empty());
        if (c == '/')
            escaped += '-';
        else if (plain)
            escaped += c;
        else
            escaped += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    return escaped;
}

std::vector<std::string> level_targets(std::string_view mount_point, Level level) {
    std::vector<std::string> targets;
    const auto instance = path_escape(mount_point);
    for (const auto reached : {Level::Low, Level::Critical, Level::Full})
        if (level >= reached)
            targets.push_back(fmt::format(
                "thaw-disk-{}@{}.target", diskguard1::kLevelNames.name(reached), instance
            ));
    return targets;
}

} // namespace thaw::diskguard
