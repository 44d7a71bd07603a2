// SPDX-License-Identifier: MIT
// One fault at a time and many at once, ours against the kernel's floor.

#include "measures.hpp"
#include "rig.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <thread>

namespace thaw::bench {

namespace {

using nlohmann::json;

std::vector<std::uint32_t> shuffled(std::uint64_t pages, std::uint64_t seed) {
    std::vector<std::uint32_t> order(pages);
    std::iota(order.begin(), order.end(), 0U);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
    return order;
}

struct Latency {
    double p50 = 0;
    double p99 = 0;
    double mean = 0;
};

Latency touch_all(const Guest& guest, const std::vector<std::uint32_t>& order) {
    std::vector<std::uint64_t> took;
    took.reserve(order.size());
    for (const std::uint32_t page : order) {
        const std::uint64_t before = now_ns();
        if (*guest.at(page) != Image::first_word(page)) give_up("a page holds the wrong bytes");
        took.push_back(now_ns() - before);
    }
    const double sum = std::accumulate(took.begin(), took.end(), 0.0);
    const double mean = sum / static_cast<double>(took.size());
    return {.p50 = percentile(took, 0.5), .p99 = percentile(took, 0.99), .mean = mean};
}

struct Kind {
    std::string name;
    std::string engine; // empty: the floor
    bool checked = false;
};

const std::vector<Kind>& kinds() {
    static const std::vector<Kind> all{
        {"floor", "", false},
        {"io_uring", "io_uring", false},
        {"io_uring_checked", "io_uring", true},
        {"epoll", "epoll", false},
        {"epoll_checked", "epoll", true},
    };
    return all;
}

template <class Measure>
auto with_server(const Image& image, const Kind& kind, int server_cpu, Measure&& measure) {
    const Guest guest(image.size());
    if (kind.engine.empty()) {
        Floor floor(image, guest);
        pin(server_cpu, floor.pid());
        return measure(guest);
    }
    Worker worker(image, guest, {.engine = kind.engine, .checked = kind.checked});
    pin(server_cpu, worker.pid());
    return measure(guest);
}

json latencies(const Image& image, const Options& options, int server_cpu) {
    constexpr std::uint64_t kTouches = 16384;
    std::map<std::string, std::vector<Latency>> all;
    for (unsigned run = 0; run < options.runs; ++run) {
        auto order = shuffled(image.pages(), run);
        order.resize(std::min(order.size(), kTouches));
        for (const Kind& kind : kinds())
            all[kind.name].push_back(with_server(image, kind, server_cpu, [&](const Guest& guest) {
                return touch_all(guest, order);
            }));
    }
    json report;
    for (const Kind& kind : kinds()) {
        std::vector<double> p50;
        std::vector<double> p99;
        std::vector<double> mean;
        std::vector<double> p50_ns;
        for (unsigned run = 0; run < options.runs; ++run) {
            const Latency& floor = all["floor"][run];
            const Latency& ours = all[kind.name][run];
            p50.push_back(ours.p50 / floor.p50);
            p99.push_back(ours.p99 / floor.p99);
            mean.push_back(ours.mean / floor.mean);
            p50_ns.push_back(ours.p50);
        }
        report[kind.name] = {
            {"p50_ratio", median(p50)},
            {"p99_ratio", median(p99)},
            {"mean_ratio", median(mean)},
            {"p50_ns", median(p50_ns)},
        };
    }
    return report;
}

double faults_per_second(const Guest& guest, unsigned touchers, std::uint64_t pages) {
    std::vector<std::thread> threads;
    const std::uint64_t before = now_ns();
    for (unsigned t = 0; t < touchers; ++t)
        threads.emplace_back([&, t] {
            for (const std::uint32_t page : shuffled(pages / touchers, t))
                static_cast<void>(*guest.at(page * std::uint64_t{touchers} + t));
        });
    for (auto& thread : threads)
        thread.join();
    return static_cast<double>(pages) * 1e9 / static_cast<double>(now_ns() - before);
}

json rates(const Image& image, const Options& options) {
    json report;
    const std::uint64_t pages = std::min<std::uint64_t>(image.pages(), 16384);
    for (const unsigned touchers : {1U, 2U, 4U, 8U}) {
        std::map<std::string, std::vector<double>> all;
        for (unsigned run = 0; run < options.runs; ++run)
            for (const Kind& kind : kinds())
                all[kind.name].push_back(with_server(image, kind, -1, [&](const Guest& guest) {
                    return faults_per_second(guest, touchers, pages);
                }));
        for (const auto& [name, values] : all)
            report[std::to_string(touchers)][name] = median(values);
    }
    return report;
}

} // namespace

json measure_faults(const Options& options) {
    const Image image(options.folder, options.hot_mib << 20, [](auto) { return false; });
    pin(0);
    const json same = latencies(image, options, 0);
    const json other = latencies(image, options, 1);
    pin(-1);
    json report;
    for (const auto& [suffix, source] :
         {std::pair<std::string, const json*>{"", &same}, {"_two_cpus", &other}})
        for (const char* engine : {"io_uring", "epoll"})
            for (const std::string checked : {"", "_checked"}) {
                const json& from = (*source)[engine + checked];
                report["fault_p50_ratio" + checked + suffix][engine] = from["p50_ratio"];
                report["fault_p99_ratio" + checked + suffix][engine] = from["p99_ratio"];
                report["fault_mean_ratio" + checked + suffix][engine] = from["mean_ratio"];
            }
    report["fault_floor_p50_ns"] = same["floor"]["p50_ns"];
    report["fault_floor_p50_ns_two_cpus"] = other["floor"]["p50_ns"];
    report["faults_per_s_by_touchers"] = rates(image, options);
    return report;
}

} // namespace thaw::bench
