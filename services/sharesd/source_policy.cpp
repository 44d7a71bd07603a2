// SPDX-License-Identifier: MIT
#include "source_policy.hpp"

#include "api/shares1.hpp"

#include <algorithm>

namespace thaw::sharesd {

namespace {

constexpr std::size_t kLongestPath = 4095; // PATH_MAX without the final NUL

std::vector<std::string_view> components(std::string_view path) {
    std::vector<std::string_view> parts;
    while (!path.empty()) {
        const auto slash = path.find('/');
        if (slash != 0) parts.push_back(path.substr(0, slash));
        if (slash == std::string_view::npos) break;
        path.remove_prefix(slash + 1);
    }
    return parts;
}

std::unexpected<Error> invalid(std::string_view why) {
    return fail_named(shares1::error::kSourceInvalid, EINVAL, "the source {}", why);
}

} // namespace

Result<> check_source_path(std::string_view path) {
    if (!path.starts_with('/')) return invalid("is not an absolute path");
    if (path.size() > kLongestPath) return invalid("is too long");
    if (std::ranges::any_of(path, [](char c) {
            return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
        }))
        return invalid("has control characters in its path");
    if (path == "/") return invalid("is the root of the host");
    if (path.ends_with('/') || path.find("//") != std::string_view::npos)
        return invalid("has an empty component in its path");
    for (const auto part : components(path))
        if (part == "." || part == "..") return invalid("has \".\" or \"..\" in its path");
    return {};
}

bool is_below(std::string_view path, std::string_view directory) {
    while (directory.ends_with('/'))
        directory.remove_suffix(1);
    if (!path.starts_with(directory)) return false;
    return path.size() == directory.size() || path[directory.size()] == '/';
}

bool is_allowed(std::string_view path, const std::vector<std::string>& allowed) {
    return std::ranges::any_of(allowed, [path](const std::string& directory) {
        return directory.starts_with('/') && is_below(path, directory);
    });
}

const std::vector<std::string>& default_churning_caches() {
    static const std::vector<std::string> patterns{
        ".cache",          // coursier, pip, uv, go-build, bazel and most others
        ".coursier",       // older coursier
        ".ivy2",           //
        ".npm",            //
        ".pnpm-store",     //
        "pnpm/store",      // ~/.local/share/pnpm/store
        "node_modules",    //
        ".cargo/registry", //
        ".cargo/git",      //
        "go/pkg/mod",      // GOMODCACHE
        ".m2/repository",  // maven
        ".gradle/caches",  //
        ".docker",         //
        "lib/docker",      // /var/lib/docker
        "lib/containers",  // /var/lib/containers
        "share/containers" // ~/.local/share/containers
    };
    return patterns;
}

std::optional<std::string>
find_churning_cache(std::string_view path, const std::vector<std::string>& patterns) {
    const auto parts = components(path);
    for (const auto& pattern : patterns) {
        const auto wanted = components(pattern);
        if (!wanted.empty() && !std::ranges::search(parts, wanted).empty()) return pattern;
    }
    return std::nullopt;
}

} // namespace thaw::sharesd
