// SPDX-License-Identifier: MIT

// How long a share takes to be ready: from the call of AddShare to the answer, plus a connection to
// the socket that it names. Runs in a lab beside the real supervisor:
//
//   thaw-bench-shares --source DIR --count 50 --parallel 1 [--keep]
//
// Prints one JSON object; times in microseconds.

#include "api/shares1.hpp"
#include "bus/bus.hpp"
#include "core/scm.hpp"
#include "core/text.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <mutex>
#include <thread>

namespace {

using namespace thaw;

struct Options {
    std::string source;
    unsigned count = 50;
    unsigned parallel = 1;
    bool keep = false;
};

struct Outcome {
    std::mutex lock;
    std::vector<Microseconds> times;
    std::vector<std::string> errors;
    unsigned next = 0;
};

Result<BusMessage> call(Bus& bus, const BusMessage& message) {
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message* reply = nullptr;
    const int r = sd_bus_call(bus.get(), message.get(), 120 * kUsecPerSec, &error, &reply);
    if (r >= 0) return BusMessage::adopt(reply);
    auto failure = fail(-r, "{}", error.message != nullptr ? error.message : "call");
    sd_bus_error_free(&error);
    return failure;
}

Result<BusMessage> new_call(Bus& bus, const char* member) {
    return bus.new_call(shares1::kBusName, shares1::kPath, shares1::kManagerInterface, member);
}

Result<Microseconds> add(Bus& bus, const Options& options, const std::string& tag) {
    THAW_TRY(auto message, new_call(bus, "AddShare"));
    THAW_CHECK(message.append(
        "sssa{sv}t", "bench", tag.c_str(), options.source.c_str(), 0U, std::uint64_t{0}
    ));
    const auto begin = now_monotonic();
    THAW_TRY(auto reply, call(bus, message));
    const auto ready = now_monotonic() - begin;
    const char* path = nullptr;
    const char* socket = nullptr;
    THAW_CHECK(reply.read("os", &path, &socket));
    // Ready means that it takes a VMM now; a connection would end a share that is to be kept.
    if (!options.keep) THAW_CHECK(connect_unix(socket, SOCK_STREAM, false));
    return ready;
}

Result<> remove(Bus& bus, const std::string& tag) {
    THAW_TRY(auto message, new_call(bus, "RemoveShare"));
    THAW_CHECK(message.append("sst", "bench", tag.c_str(), shares1::kRemoveForce));
    // The end of the connection may have ended it already.
    (void)call(bus, message);
    return {};
}

Result<> work(const Options& options, Outcome& outcome) {
    THAW_TRY(auto bus, Bus::open_system());
    for (;;) {
        std::string tag;
        {
            const std::scoped_lock guard(outcome.lock);
            if (outcome.next == options.count) return {};
            tag = fmt::format("t{}", outcome.next++);
        }
        const auto took = add(bus, options, tag);
        {
            const std::scoped_lock guard(outcome.lock);
            if (took)
                outcome.times.push_back(*took);
            else
                outcome.errors.push_back(took.error().message());
        }
        if (!options.keep) THAW_CHECK(remove(bus, tag));
    }
}

nlohmann::json report(Outcome& outcome, Microseconds total) {
    std::ranges::sort(outcome.times);
    nlohmann::json value{
        {"count", outcome.times.size()}, {"errors", outcome.errors}, {"total", total}
    };
    if (outcome.times.empty()) return value;
    value["p50"] = outcome.times[outcome.times.size() / 2];
    value["min"] = outcome.times.front();
    value["max"] = outcome.times.back();
    return value;
}

} // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app("Times AddShare", "thaw-bench-shares");
    app.add_option("--source", options.source)->required();
    app.add_option("--count", options.count);
    app.add_option("--parallel", options.parallel);
    app.add_flag("--keep", options.keep);
    CLI11_PARSE(app, argc, argv);
    Outcome outcome;
    const auto begin = now_monotonic();
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < options.parallel; ++i)
        threads.emplace_back([&] {
            if (const auto worked = work(options, outcome); !worked) {
                const std::scoped_lock guard(outcome.lock);
                outcome.errors.push_back(worked.error().message());
            }
        });
    threads.clear();
    fmt::print("{}\n", report(outcome, now_monotonic() - begin).dump());
    return outcome.errors.empty() ? 0 : 1;
}
