// SPDX-License-Identifier: MIT

// What one look at a share's descriptors costs the supervisor, by both ways of counting:
//
//   thaw-bench-count-descriptors 10 100 20000
//
// Opens so many descriptors in a child and counts them from here. Prints JSON, nanoseconds.

#include "proc_reader.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace {

using namespace thaw;
using namespace thaw::sharesd;

// A child with `wanted` descriptors, or as many as it may have, that waits to be killed.
Result<pid_t> child_with(std::uint64_t wanted) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0) return fail_errno(errno, "pipe");
    const pid_t pid = fork();
    if (pid < 0) return fail_errno(errno, "fork");
    if (pid == 0) {
        // Three are open already, and the two of the pipe.
        for (std::uint64_t i = 5; i < wanted && open("/", O_PATH) >= 0; ++i) {
        }
        (void)!write(ready[1], "x", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    char byte = 0;
    const bool started = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (!started) return fail(ECHILD, "the child did not start");
    return pid;
}

Result<nlohmann::json> measure(pid_t pid, CountMethod method) {
    constexpr int kRounds = 21;
    std::vector<std::int64_t> costs;
    std::uint64_t counted = 0;
    for (int i = 0; i < kRounds; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        THAW_TRY(counted, count_descriptors(pid, method));
        costs.push_back((std::chrono::steady_clock::now() - begin).count());
    }
    std::ranges::sort(costs);
    return nlohmann::json{
        {"counted", counted}, {"p50_ns", costs[kRounds / 2]}, {"max_ns", costs.back()}
    };
}

Result<nlohmann::json> run(const std::vector<std::uint64_t>& sizes) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    const bool constant = probe_count_method() == CountMethod::Stat;
    auto report = nlohmann::json::array();
    for (const auto size : sizes) {
        THAW_TRY(const auto pid, child_with(size));
        nlohmann::json row{{"descriptors", size}};
        auto walk = measure(pid, CountMethod::Walk);
        auto stat = constant ? measure(pid, CountMethod::Stat) : walk;
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
        if (!walk) return walk;
        if (!stat) return stat;
        row["walk"] = *walk;
        if (constant) row["stat"] = *stat;
        report.push_back(std::move(row));
    }
    return report;
}

} // namespace

int main(int argc, char** argv) {
    std::vector<std::uint64_t> sizes;
    for (int i = 1; i < argc; ++i)
        sizes.push_back(std::strtoull(argv[i], nullptr, 10));
    const auto report = run(sizes);
    if (!report) {
        fmt::print(stderr, "thaw-bench-count-descriptors: {}\n", report.error().message());
        return 1;
    }
    fmt::print("{}\n", report->dump());
    return 0;
}
