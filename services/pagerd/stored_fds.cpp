// SPDX-License-Identifier: MIT
#include "stored_fds.hpp"

#include <algorithm>
#include <utility>

namespace thaw::pagerd {

namespace {
constexpr std::size_t kMaxId = 64;
} // namespace

bool is_valid_id(std::string_view id) {
    return !id.empty() && id.size() <= kMaxId && std::all_of(id.begin(), id.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    });
}

std::string stored_name(std::string_view id, FdRole role) {
    return fmt::format("{}.{}", id, kFdRoleNames.name(role));
}

std::optional<StoredName> parse_stored_name(std::string_view name) {
    const auto dot = name.find('.');
    if (dot == std::string_view::npos) return std::nullopt;
    const auto role = kFdRoleNames.value(name.substr(dot + 1));
    const auto id = name.substr(0, dot);
    if (!role || !is_valid_id(id)) return std::nullopt;
    return StoredName{std::string(id), *role};
}

Inherited sort_inherited(std::vector<NamedFd> fds) {
    Inherited inherited;
    for (auto& [name, fd] : fds) {
        if (name == kControlName) {
            inherited.control = std::move(fd);
            continue;
        }
        const auto parsed = parse_stored_name(name);
        if (!parsed) {
            ++inherited.stored;
            inherited.unknown.push_back(name);
            continue;
        }
        // A second one goes with the first, which is counted out once.
        if (inherited.by_id[parsed->id].try_emplace(parsed->role, std::move(fd)).second)
            ++inherited.stored;
    }
    return inherited;
}

} // namespace thaw::pagerd
