// SPDX-License-Identifier: MIT
// One VM's faults beside another VM that gives the machine all it has, and many VMs that do
// nothing.

#include "broker_rig.hpp"
#include "core/file.hpp"
#include "fakes/slow_file.hpp"
#include "measures.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <map>

namespace thaw::bench {

namespace {

using nlohmann::json;
using Work = GuestProcess::Work;

constexpr unsigned kThreads = 2;
constexpr Microseconds kWatched = 2 * kUsecPerSec;

// The p99 of one VM's touches while `neighbour` is at work.
double p99_beside(BrokerRig& rig, const Image& image, GuestProcess* neighbour, unsigned run) {
    const std::string name = "watched" + std::to_string(run);
    rig.create(name, image);
    auto guest = rig.start(name, {.size = image.size(), .work = Work::Touch, .pause_us = 200});
    if (neighbour != nullptr) neighbour->work(true);
    rig.run_for(100 * kUsecPerMsec);
    guest->work(true);
    rig.run_for(kWatched);
    auto touches = guest->take();
    if (neighbour != nullptr) neighbour->work(false);
    rig.end(name, std::move(guest));
    return percentile(touches, 0.99);
}

} // namespace

json measure_fairness(const Options& options) {
    const Image image(options.folder, 128 << 20, [](auto) { return false; });
    BrokerRig rig;
    GuestProcess hog({.work = Work::Spin, .threads = kThreads});
    const auto neighbour = [&](const char* name, Work work, int memory = -1) {
        rig.create(name, image, memory);
        return rig.start(name, {.size = image.size(), .work = work, .threads = kThreads});
    };
    const auto faults = neighbour("faults", Work::Faults);
    const auto removes = neighbour("removes", Work::Removes);
    const std::string folder = options.folder + "/slow";
    must(make_directories(folder), "make a folder");
    auto slow_file = fakes::SlowFile::serve(
        {.backing = image.memory(), .folder = folder, .latency_ns = 20'000'000, .direct = true}
    );
    Fd slow_memory;
    std::unique_ptr<GuestProcess> slow;
    if (slow_file) {
        slow_memory = must(open_file(slow_file->path(), O_RDONLY), "open the slow file");
        slow = neighbour("slow", Work::Faults, slow_memory.get());
    }
    std::map<std::string, std::vector<double>> ratios;
    std::vector<double> alone;
    std::vector<double> beside_hog;
    unsigned watched = 0;
    for (unsigned run = 0; run < options.runs; ++run) {
        alone.push_back(p99_beside(rig, image, nullptr, ++watched));
        const double floor = p99_beside(rig, image, &hog, ++watched);
        beside_hog.push_back(floor);
        ratios["fault_storm"].push_back(p99_beside(rig, image, faults.get(), ++watched) / floor);
        ratios["remove_storm"].push_back(p99_beside(rig, image, removes.get(), ++watched) / floor);
        if (slow)
            ratios["slow_source"].push_back(p99_beside(rig, image, slow.get(), ++watched) / floor);
    }
    json report;
    report["fairness"]["p99_us_alone"] = median(alone) / 1e3;
    report["fairness"]["p99_us_beside_cpu_hog"] = median(beside_hog) / 1e3;
    for (const auto& [name, values] : ratios)
        report["fairness"]["p99_ratio_to_cpu_hog"][name] = median(values);
    rig.end("slow", std::move(slow)); // before its file goes
    slow_memory.reset();
    ::rmdir(folder.c_str());
    return report;
}

json measure_scale(const Options& options) {
    const Image image(options.folder, 64 << 20, [](std::uint64_t page) { return page % 8 == 1; });
    BrokerRig rig;
    std::vector<std::unique_ptr<GuestProcess>> guests;
    std::vector<double> created;
    std::vector<double> served;
    for (unsigned i = 0; i < options.idle_workers; ++i) {
        const std::string name = "vm" + std::to_string(i);
        const std::uint64_t begin = now_ns();
        rig.create(name, image);
        const std::uint64_t made = now_ns();
        guests.push_back(rig.start(name, {.size = image.size()}));
        created.push_back(static_cast<double>(made - begin) / 1e6);
        served.push_back(static_cast<double>(now_ns() - made) / 1e6);
    }
    std::vector<pid_t> workers;
    for (unsigned i = 0; i < options.idle_workers; ++i)
        workers.push_back(rig.worker("vm" + std::to_string(i)));
    rig.run_for(3 * kUsecPerSec);
    const auto all = [&] {
        std::uint64_t sum = 0;
        for (const pid_t pid : workers)
            sum += switches(pid);
        return sum;
    };
    const std::uint64_t workers_before = all();
    const std::uint64_t broker_before = switches(rig.pid());
    // Not by the rig's loop: the bus must not be asked anything meanwhile.
    ::sleep(options.idle_seconds);
    const auto per_second = [&](std::uint64_t now, std::uint64_t before) {
        return static_cast<double>(now - before) / options.idle_seconds;
    };
    json report;
    report["scale"] = {
        {"sessions", options.idle_workers},
        {"workers_wakeups_per_s", per_second(all(), workers_before)},
        {"broker_wakeups_per_s", per_second(switches(rig.pid()), broker_before)},
        {"broker_private_kib",
         sum_of(
             must(
                 read_file("/proc/" + std::to_string(rig.pid()) + "/smaps_rollup"), "smaps_rollup"
             ),
             "Private_"
         )},
        {"first_page_ms", median(served)},
    };
    report["session_create_ms"] = median(created);
    return report;
}

} // namespace thaw::bench
