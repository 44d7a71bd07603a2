// SPDX-License-Identifier: MIT
#include "proc_reader.hpp"

#include "core/file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>

namespace thaw::sharesd {

namespace {

std::string proc_path(pid_t pid, std::string_view name) {
    return fmt::format("/proc/{}/{}", pid, name);
}

Result<std::uint64_t> walk(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
    if (!folder) return fail_errno(errno, "{}", path);
    std::uint64_t count = 0;
    errno = 0;
    while (const dirent* entry = readdir(folder.get()))
        if (entry->d_name[0] != '.') ++count;
    if (errno != 0) return fail_errno(errno, "read {}", path);
    return count;
}

// fields[3] flags, [5] state, [7] path, as the kernel prints them.
constexpr std::size_t kFlagsField = 3;
constexpr std::size_t kStateField = 5;
constexpr std::size_t kPathField = 7;
constexpr std::string_view kAccepting = "00010000"; // SO_ACCEPTCON
constexpr std::string_view kConnected = "03";       // SS_CONNECTED
constexpr std::size_t kNetUnixLimit = 64 << 20;

} // namespace

CountMethod probe_count_method() {
    struct stat st = {};
    const bool counts = stat("/proc/self/fd", &st) == 0 && st.st_size > 0;
    return counts ? CountMethod::Stat : CountMethod::Walk;
}

Result<std::uint64_t> count_descriptors(pid_t pid, CountMethod method) {
    const auto path = proc_path(pid, "fd");
    if (method == CountMethod::Walk) return walk(path);
    struct stat st = {};
    if (stat(path.c_str(), &st) < 0) return fail_errno(errno, "{}", path);
    // A daemon has its socket at least: nothing at all means that we were not shown the truth.
    if (st.st_size <= 0) return fail(ENODATA, "{}: no count", path);
    return static_cast<std::uint64_t>(st.st_size);
}

Result<std::uint64_t> resident_memory(pid_t pid) {
    THAW_TRY(const auto text, read_file(proc_path(pid, "statm")));
    const auto words = split_words(text);
    if (words.size() < 2) return fail(EBADMSG, "{}: too short", proc_path(pid, "statm"));
    THAW_TRY(const auto pages, parse_unsigned(words[1]));
    return pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

Result<NofileLimits> read_limits(pid_t pid) {
    THAW_TRY(const auto text, read_file(proc_path(pid, "limits")));
    return parse_limits(text);
}

Result<pid_t> worker_of(pid_t main_pid) {
    THAW_TRY(
        const auto text, read_file(proc_path(main_pid, fmt::format("task/{}/children", main_pid)))
    );
    const auto words = split_words(text);
    if (words.empty()) return main_pid;
    THAW_TRY(const auto child, parse_unsigned(words.front(), INT32_MAX));
    return static_cast<pid_t>(child);
}

Result<std::uint64_t> read_nr_open() {
    THAW_TRY(const auto text, read_file("/proc/sys/fs/nr_open"));
    return parse_unsigned(trim(text));
}

Result<> raise_limit_of(pid_t pid, std::uint64_t limit) {
    rlimit now = {};
    if (prlimit(pid, RLIMIT_NOFILE, nullptr, &now) < 0)
        return fail_errno(errno, "read the limit of process {}", pid);
    if (limit < now.rlim_cur)
        return fail(ERANGE, "{} is below the limit of {}", limit, now.rlim_cur);
    const rlimit wanted{.rlim_cur = limit, .rlim_max = std::max<rlim_t>(limit, now.rlim_max)};
    if (prlimit(pid, RLIMIT_NOFILE, &wanted, nullptr) < 0)
        return fail_errno(errno, "raise the limit of process {} to {}", pid, limit);
    return {};
}

std::set<std::string> parse_connected(std::string_view net_unix) {
    std::set<std::string> paths;
    while (!net_unix.empty()) {
        const auto end = net_unix.find('\n');
        auto line = net_unix.substr(0, end);
        net_unix.remove_prefix(end == std::string_view::npos ? net_unix.size() : end + 1);
        std::array<std::string_view, kPathField + 1> fields;
        std::size_t filled = 0;
        // The path is the rest of the line: it may hold blanks.
        for (; filled < kPathField && !line.empty(); ++filled) {
            const auto blank = line.find(' ');
            fields[filled] = line.substr(0, blank);
            line.remove_prefix(blank == std::string_view::npos ? line.size() : blank + 1);
            line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
        }
        if (filled < kPathField || line.empty()) continue;
        if (fields[kFlagsField] != kAccepting && fields[kStateField] == kConnected)
            paths.emplace(line);
    }
    return paths;
}

Result<std::set<std::string>> read_connected() {
    THAW_TRY(const auto text, read_file("/proc/1/net/unix", kNetUnixLimit));
    return parse_connected(text);
}

} // namespace thaw::sharesd
