// SPDX-License-Identifier: MIT
#include "reserve/mounts.hpp"

#include "core/file.hpp"
#include "core/text.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace thaw::reserve {

namespace {

// A host with thousands of containers has megabytes of it.
constexpr std::size_t kMountinfoLimit = std::size_t{64} << 20;

bool is_octal(char c) {
    return c >= '0' && c <= '7';
}

// Blanks and backslashes come as \ooo.
std::string unescape(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) &&
            is_octal(text[i + 2]) && is_octal(text[i + 3])) {
            result += static_cast<char>(
                ((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) | (text[i + 3] - '0')
            );
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

template <class T>
bool parse_number(std::string_view text, T& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size();
}

bool has_option(std::string_view options, std::string_view wanted) {
    while (!options.empty()) {
        const auto comma = options.find(',');
        if (options.substr(0, comma) == wanted) return true;
        if (comma == std::string_view::npos) break;
        options.remove_prefix(comma + 1);
    }
    return false;
}

// id parent major:minor root point options [optional...] - type source superoptions
std::optional<Mount> parse_line(std::string_view line) {
    const auto words = split_words(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 9 || dash - words.begin() < 6 || words.end() - dash < 4) return {};
    const std::string_view device = words[2];
    const auto colon = device.find(':');
    Mount mount;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    if (colon == std::string_view::npos || !parse_number(std::string_view(words[0]), mount.id) ||
        !parse_number(device.substr(0, colon), major_number) ||
        !parse_number(device.substr(colon + 1), minor_number))
        return {};
    mount.device = makedev(major_number, minor_number);
    mount.root = unescape(words[3]);
    mount.point = unescape(words[4]);
    mount.type = unescape(dash[1]);
    mount.source = unescape(dash[2]);
    mount.read_only = has_option(words[5], "ro") || has_option(dash[3], "ro");
    return mount;
}

} // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
    std::vector<Mount> mounts;
    while (!text.empty()) {
        const auto end = text.find('\n');
        if (auto mount = parse_line(text.substr(0, end))) mounts.push_back(std::move(*mount));
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + 1);
    }
    return mounts;
}

Result<std::vector<Mount>> read_mounts() {
    THAW_TRY(const auto text, read_file("/proc/self/mountinfo", kMountinfoLimit));
    return parse_mountinfo(text);
}

Result<std::uint64_t> mount_id_of(int fd) {
    struct statx st{};
    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) < 0)
        return fail_errno(errno, "statx");
    if ((st.stx_mask & STATX_MNT_ID) == 0) return fail(ENOTSUP, "statx knows no mount ids");
    return st.stx_mnt_id;
}

} // namespace thaw::reserve
