// SPDX-License-Identifier: MIT
#pragma once

#include <seccomp.h>

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>

namespace thaw::test {

// What `check` says is wrong ("" for nothing), seen by a child: what it does to itself ends with
// it.
inline std::string in_child(const std::function<std::string()>& check) {
    std::array<int, 2> ends = {-1, -1};
    if (pipe(ends.data()) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        const std::string wrong = check();
        _exit(write(ends[1], wrong.data(), wrong.size()) >= 0 ? 0 : 1);
    }
    close(ends[1]);
    std::string wrong;
    std::array<char, 512> buffer = {};
    for (ssize_t got = 0; (got = read(ends[0], buffer.data(), buffer.size())) > 0;)
        wrong.append(buffer.data(), static_cast<std::size_t>(got));
    close(ends[0]);
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return "the child died";
    return wrong;
}

// The same under the filter of RestrictSUIDSGID=, which answers openat2() with ENOSYS, as it cannot
// look into its argument.
inline std::string without_openat2(const std::function<std::string()>& check) {
    return in_child([&]() -> std::string {
        const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        if (filter == nullptr ||
            seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0) != 0 ||
            seccomp_load(filter) != 0)
            return "no filter";
        return check();
    });
}

} // namespace thaw::test
