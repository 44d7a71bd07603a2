// SPDX-License-Identifier: MIT
#include "handle_probe.hpp"

#include "api/shares1.hpp"
#include "core/file.hpp"
#include "source_policy.hpp"

#include <fcntl.h>

#include <vector>

namespace thaw::sharesd {

namespace {

constexpr std::size_t kMountInfoLimit = 16 << 20;
constexpr std::size_t kMountPointField = 4;
constexpr std::size_t kOctalDigits = 3;

// One handle made and opened again: some file systems can only do the first.
Result<> try_handle(int directory, const std::string& name) {
    THAW_TRY(const auto object, open_beneath(directory, name, O_RDONLY | O_NONBLOCK | O_NOCTTY));
    std::vector<char> room(sizeof(file_handle) + MAX_HANDLE_SZ);
    auto* handle = reinterpret_cast<file_handle*>(room.data());
    handle->handle_bytes = MAX_HANDLE_SZ;
    int mount_id = 0;
    if (name_to_handle_at(object.get(), "", handle, &mount_id, AT_EMPTY_PATH) < 0)
        return fail_errno(errno, "no file handle");
    const Fd opened(open_by_handle_at(object.get(), handle, O_PATH | O_CLOEXEC));
    if (!opened) return fail_errno(errno, "a file handle cannot be opened");
    return {};
}

// mountinfo writes blanks and the like as \040.
std::string unescape(std::string_view field) {
    std::string text;
    for (std::size_t i = 0; i < field.size(); ++i) {
        if (field[i] == '\\' && i + kOctalDigits < field.size()) {
            int value = 0;
            for (std::size_t digit = 1; digit <= kOctalDigits; ++digit)
                value = value * 8 + (field[i + digit] - '0');
            text += static_cast<char>(value);
            i += kOctalDigits;
        } else {
            text += field[i];
        }
    }
    return text;
}

} // namespace

std::vector<std::string> mounts_below(std::string_view mountinfo, std::string_view path) {
    std::vector<std::string> mounts;
    while (!mountinfo.empty()) {
        const auto end = mountinfo.find('\n');
        const auto words = split_words(mountinfo.substr(0, end));
        mountinfo.remove_prefix(end == std::string_view::npos ? mountinfo.size() : end + 1);
        if (words.size() <= kMountPointField) continue;
        const auto point = unescape(words[kMountPointField]);
        if (point.size() > path.size() && is_below(point, path))
            mounts.push_back(point.substr(path.size() + 1));
    }
    return mounts;
}

HandleProbe probe_handles(int source, const std::string& path) {
    HandleProbe probe;
    if (auto root = try_handle(source, "."); !root) {
        probe.reason = fmt::format("{}: {}", path, root.error().message());
        return probe;
    }
    probe.root = true;
    const auto mountinfo = read_file("/proc/self/mountinfo", kMountInfoLimit);
    if (!mountinfo) {
        probe.reason = mountinfo.error().message();
        return probe;
    }
    for (const auto& mount : mounts_below(*mountinfo, path)) {
        auto tried = try_handle(source, mount);
        // Mounted over by another one, or unmounted meanwhile.
        if (tried || tried.error().code() == ENOENT) continue;
        probe.reason = fmt::format("{}/{}: {}", path, mount, tried.error().message());
        return probe;
    }
    probe.mounts = true;
    return probe;
}

Result<HandleChoice>
choose_handles(HandleMode wanted, Dialect dialect, bool privileged, const HandleProbe& probe) {
    if (wanted == HandleMode::Never) return HandleChoice{HandleMode::Never, "asked for"};
    std::string reason;
    if (dialect == Dialect::C)
        reason = "this virtiofsd (dialect c) has none";
    else if (!privileged)
        reason = "a share that is not root's has no CAP_DAC_READ_SEARCH";
    else if (!probe.root || (wanted == HandleMode::Mandatory && !probe.mounts))
        reason = probe.reason;
    if (wanted == HandleMode::Mandatory) {
        if (!reason.empty())
            return fail_named(
                shares1::error::kHandlesUnavailable, EOPNOTSUPP, "no file handles: {}", reason
            );
        return HandleChoice{HandleMode::Mandatory, ""};
    }
    if (!reason.empty()) return HandleChoice{HandleMode::Never, reason};
    // Mounts below that cannot do it, or that come later, are kept open as before.
    return HandleChoice{HandleMode::Prefer, probe.mounts ? "not asked for" : probe.reason};
}

} // namespace thaw::sharesd
