// SPDX-License-Identifier: MIT
// What workers cost that have nothing to do.

#include "core/file.hpp"
#include "measures.hpp"
#include "rig.hpp"

#include <fmt/format.h>

#include <memory>
#include <thread>

namespace thaw::bench {

namespace {

using nlohmann::json;

// The sum of the numbers behind `key` in a file of "key: number" lines.
std::string proc(pid_t pid, const char* file) {
    return must(read_file(fmt::format("/proc/{}/{}", pid, file)), file);
}

} // namespace

json measure_idle(const Options& options) {
    json report;
    const Image image(options.folder, 64 << 20, [](std::uint64_t page) { return page % 8 == 0; });
    for (const std::string engine : {"io_uring", "epoll"}) {
        std::vector<std::unique_ptr<Guest>> guests;
        std::vector<std::unique_ptr<Worker>> workers;
        std::vector<double> created;
        for (unsigned i = 0; i < options.idle_workers; ++i) {
            guests.push_back(std::make_unique<Guest>(image.size()));
            const std::uint64_t before = now_ns();
            workers.push_back(
                std::make_unique<Worker>(image, *guests.back(), WorkerSetup{.engine = engine})
            );
            created.push_back(static_cast<double>(now_ns() - before) / 1e6);
        }
        for (std::uint64_t page = 0; page < image.pages(); page += 3)
            static_cast<void>(*guests.front()->at(page));
        std::this_thread::sleep_for(std::chrono::seconds(5));
        std::uint64_t before = 0;
        for (const auto& worker : workers)
            before += switches(worker->pid());
        std::this_thread::sleep_for(std::chrono::seconds(options.idle_seconds));
        std::uint64_t after = 0;
        for (const auto& worker : workers)
            after += switches(worker->pid());
        report["idle_wakeups_per_s"][engine] =
            static_cast<double>(after - before) / options.idle_seconds;
        report["worker_private_kib"][engine] =
            sum_of(proc(workers.front()->pid(), "smaps_rollup"), "Private_");
        report["worker_start_ms"][engine] = median(created);
    }
    return report;
}

} // namespace thaw::bench
