// SPDX-License-Identifier: MIT

// How much time the restore manager and the pager add to a restore. Runs in a lab beside the real
// daemons and the stand-in VMM:
//
//   thaw-bench-restore --image NAME --count 50 --parallel 1 --backend uffd
//
// Per restore: from the call of RestoreInstance to JobRemoved, minus what the stand-in says it
// needed itself (exec to API socket, load). Starting the unit is PID 1's work and listed apart
// (from the unit's own timestamps). Prints one JSON object; times in microseconds.

#include "api/restore1.hpp"
#include "bus/bus.hpp"
#include "core/names.hpp"
#include "core/text.hpp"
#include "vmm_report.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace thaw;

struct Options {
    std::string image = "bench";
    std::string backend = "uffd";
    unsigned count = 50;
    unsigned parallel = 1;
};

struct Sample {
    std::string name;
    Microseconds called = 0;
    Microseconds total = 0;
    Microseconds unit_start = 0;
    Microseconds exec_to_api = 0;
    Microseconds load = 0;
    std::string error;
    // What is left for thaw once the VMM's own work is taken off.
    Microseconds ours() const {
        const Microseconds vmm = exec_to_api + load;
        return total > vmm ? total - vmm : 0;
    }
};

nlohmann::json summary(std::vector<Microseconds> values) {
    if (values.empty()) return nullptr;
    std::sort(values.begin(), values.end());
    auto at = [&](double quantile) {
        const auto last = static_cast<double>(values.size() - 1);
        return values[static_cast<std::size_t>(std::lround(quantile * last))];
    };
    return {{"p50", at(0.50)}, {"p99", at(0.99)}, {"min", values.front()}, {"max", values.back()}};
}

// Restores `parallel` VMs at a time, stops them, and goes on until `count` samples are there.
class RestoreBench {
public:
    RestoreBench(EventLoop& loop, Bus& bus, Options options)
        : loop_(loop), bus_(bus), options_(std::move(options)) {}

    Result<> run() {
        THAW_TRY(
            removed_, bus_.match_signal(
                          restore1::kBusName, restore1::kPath, restore1::kManagerInterface,
                          "JobRemoved", [this](BusMessage& signal) { on_job_removed(signal); }
                      )
        );
        while (samples_.size() < options_.count) {
            const auto first = samples_.size();
            const auto batch = std::min<std::size_t>(options_.parallel, options_.count - first);
            for (std::size_t i = 0; i < batch; ++i)
                THAW_CHECK(start(fmt::format("bench-{}", first + i)));
            THAW_CHECK(wait_for_all());
            for (std::size_t i = first; i < samples_.size(); ++i)
                measure(samples_[i]);
            for (std::size_t i = first; i < samples_.size(); ++i)
                if (samples_[i].error.empty()) THAW_CHECK(stop(samples_[i].name));
            THAW_CHECK(wait_for_all());
        }
        return {};
    }

    nlohmann::json report() const {
        std::vector<Microseconds> total, ours, unit, api, load;
        nlohmann::json errors = nlohmann::json::array();
        for (const auto& sample : samples_) {
            if (!sample.error.empty()) {
                errors.push_back(sample.error);
                continue;
            }
            total.push_back(sample.total);
            ours.push_back(sample.ours());
            unit.push_back(sample.unit_start);
            api.push_back(sample.exec_to_api);
            load.push_back(sample.load);
        }
        return {
            {"bench", "restore"},
            {"backend", options_.backend},
            {"count", samples_.size()},
            {"parallel", options_.parallel},
            {"call_to_done", summary(total)},
            {"minus_vmm", summary(ours)},
            {"unit_start", summary(unit)},
            {"vmm_exec_to_api", summary(api)},
            {"vmm_load", summary(load)},
            {"errors", errors},
        };
    }

private:
    Result<> start(const std::string& name) {
        THAW_TRY(
            auto call,
            bus_.new_call(
                restore1::kBusName, restore1::kPath, restore1::kManagerInterface, "RestoreInstance"
            )
        );
        THAW_CHECK(call.append(
            "ssa{sv}t", name.c_str(), options_.image.c_str(), 1u, "MemoryBackend", "s",
            options_.backend.c_str(), std::uint64_t{0}
        ));
        samples_.push_back({.name = name, .called = now_monotonic()});
        return send(std::move(call), name);
    }

    Result<> stop(const std::string& name) {
        THAW_TRY(
            auto call,
            bus_.new_call(
                restore1::kBusName, restore1::kPath, restore1::kManagerInterface, "StopInstance"
            )
        );
        THAW_CHECK(call.append("st", name.c_str(), std::uint64_t{0}));
        return send(std::move(call), name);
    }

    Result<> send(BusMessage call, const std::string& name) {
        waiting_.insert(name);
        calls_[name] = bus_.call(std::move(call), [this, name](Result<BusMessage> reply) {
            if (reply) return;
            note_error(name, reply.error().message());
            waiting_.erase(name);
        });
        return {};
    }

    void on_job_removed(BusMessage& signal) {
        std::uint32_t id = 0;
        const char *job = nullptr, *name = nullptr, *error = nullptr, *text = nullptr,
                   *result = nullptr;
        if (!signal.read("uossss", &id, &job, &name, &error, &text, &result)) return;
        if (waiting_.erase(name) == 0) return;
        for (auto& sample : samples_)
            if (sample.name == name && sample.total == 0)
                sample.total = now_monotonic() - sample.called;
        if (std::string_view(result) != "done")
            note_error(name, fmt::format("{}: {}", error, text));
    }

    void note_error(const std::string& name, const std::string& text) {
        for (auto& sample : samples_)
            if (sample.name == name) sample.error = text;
    }

    Result<> wait_for_all() {
        constexpr Microseconds kPatience = 120 * kUsecPerSec;
        const Microseconds deadline = now_monotonic() + kPatience;
        while (!waiting_.empty()) {
            if (now_monotonic() > deadline)
                return fail(ETIMEDOUT, "{} jobs did not end", waiting_.size());
            THAW_CHECK(loop_.run_once(kUsecPerSec));
        }
        return {};
    }

    void measure(Sample& sample) {
        if (!sample.error.empty()) return;
        auto report = bench::read_vmm_report(paths::vm_api_socket(sample.name));
        if (!report) {
            sample.error = report.error().message();
            return;
        }
        sample.exec_to_api = report->exec_to_api;
        sample.load = report->load;
        sample.unit_start = bench::unit_start_time(bus_, vmm_unit(sample.name));
    }

    EventLoop& loop_;
    Bus& bus_;
    Options options_;
    std::vector<Sample> samples_;
    std::set<std::string> waiting_;
    std::map<std::string, BusSlot> calls_;
    BusSlot removed_;
};

Result<Options> parse_options(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view key = argv[i];
        if (i + 1 >= argc) return fail(EINVAL, "{} wants a value", key);
        const std::string_view value = argv[++i];
        if (key == "--image") {
            options.image = value;
        } else if (key == "--backend") {
            options.backend = value;
        } else if (key == "--count" || key == "--parallel") {
            THAW_TRY(const auto number, parse_unsigned(value, 10000));
            if (number == 0) return fail(EINVAL, "{} wants at least 1", key);
            (key == "--count" ? options.count : options.parallel) = static_cast<unsigned>(number);
        } else {
            return fail(EINVAL, "unknown option {}", key);
        }
    }
    return options;
}

Result<nlohmann::json> bench_main(int argc, char** argv) {
    THAW_TRY(auto options, parse_options(argc, argv));
    THAW_TRY(auto loop, EventLoop::create());
    THAW_TRY(auto bus, Bus::open_system());
    THAW_CHECK(bus.attach(loop));
    RestoreBench bench(loop, bus, options);
    THAW_CHECK(bench.run());
    return bench.report();
}

} // namespace

int main(int argc, char** argv) {
    auto report = bench_main(argc, argv);
    if (!report) {
        fmt::print(stderr, "thaw-bench-restore: {}\n", report.error().message());
        return 1;
    }
    fmt::print("{}\n", report->dump(2));
    return (*report)["errors"].empty() ? 0 : 1;
}
