// SPDX-License-Identifier: MIT

// top: the sessions' rates, drawn over again.

#include "api/pager1.hpp"
#include "bus/json_value.hpp"
#include "cache_view.hpp"
#include "client.hpp"
#include "exit_codes.hpp"
#include "overlay_view.hpp"
#include "top_rates.hpp"
#include "verbs.hpp"

#include <unistd.h>

#include <algorithm>

namespace thaw::ctl {

namespace {

constexpr Microseconds kInterval = 2 * kUsecPerSec;
constexpr std::uint64_t kPage = 4096;
constexpr const char* kHome = "\x1b[H\x1b[2J";

struct Look {
    Microseconds when = 0;
    std::map<std::string, SessionSample> sessions; // by VM
    std::string cache;                             // of remote images, for people
    std::string overlays;                          // of root file systems, for people
};

SessionSample sample_of(const Properties& session) {
    SessionSample sample{
        .id = session.text("Id"),
        .state = session.text("State"),
        .image = session.text("Image"),
        .memory_size = session.number("MemorySize"),
        .installed = session.number("PagesInstalled") * kPage,
        .faults = session.number("Faults"),
        .demand = session.number("BytesDemand"),
        .replay = session.number("BytesReplay"),
        .read = session.number("BytesRead"),
        .parked = session.number("Parked"),
        .oldest_usec = session.number("OldestFaultUSec"),
        .latency = {},
    };
    const auto latency = session.values.find("FaultLatency");
    if (latency != session.values.end() && latency->second.is_array())
        for (const auto& count : latency->second)
            sample.latency.push_back(count.is_number_unsigned() ? count.get<std::uint64_t>() : 0);
    return sample;
}

Result<Look> look(Client& client, const std::vector<std::string>& names) {
    THAW_TRY(
        auto reply, client.simple(
                        pager1::kBusName, pager1::kPath, "org.freedesktop.DBus.ObjectManager",
                        "GetManagedObjects", ""
                    )
    );
    Look result{.when = now_monotonic(), .sessions = {}, .cache = {}, .overlays = {}};
    THAW_TRY(const auto objects, read_managed_objects(reply));
    for (const auto& object : objects) {
        const auto found = object.interfaces.find(pager1::kSessionInterface);
        if (found == object.interfaces.end()) continue;
        const Properties session{found->second};
        const auto name = session.text("Name");
        if (names.empty() || std::ranges::find(names, name) != names.end())
            result.sessions[name] = sample_of(session);
    }
    // One that has no cache yet is an older one.
    if (const auto cache =
            client.properties(pager1::kBusName, pager1::kPath, pager1::kCacheInterface);
        cache && !cache_room(*cache).empty())
        result.cache = fmt::format("Cache: {}; {}.\n", cache_room(*cache), cache_use(*cache));
    if (const auto overlays = ask_overlays()) result.overlays = overlays_line(*overlays);
    return result;
}

std::string micros(const std::optional<std::uint64_t>& value) {
    return value ? "<" + format_timespan(*value) : std::string();
}

std::string bytes_rate(double rate) {
    return rate < 1 ? std::string() : format_size(static_cast<std::uint64_t>(rate)) + "/s";
}

std::string loaded(const SessionSample& sample) {
    if (sample.memory_size == 0) return {};
    return fmt::format(
        "{:.1f}%",
        static_cast<double>(sample.installed) * 100 / static_cast<double>(sample.memory_size)
    );
}

nlohmann::json
row_json(const std::string& name, const SessionSample& sample, const SessionRates& rates) {
    nlohmann::json row{
        {"name", name},
        {"state", sample.state},
        {"image", sample.image},
        {"memory_size", sample.memory_size},
        {"installed_bytes", sample.installed},
        {"faults", sample.faults},
        {"faults_per_second", rates.faults},
        {"demand_bytes_per_second", rates.demand},
        {"replay_bytes_per_second", rates.replay},
        {"read_bytes_per_second", rates.read},
        {"parked", sample.parked},
        {"oldest_fault_usec", sample.oldest_usec},
    };
    row["fault_p50_usec"] = rates.p50 ? nlohmann::json(*rates.p50) : nlohmann::json();
    row["fault_p99_usec"] = rates.p99 ? nlohmann::json(*rates.p99) : nlohmann::json();
    return row;
}

void show(const Look& before, const Look& after, const OutputOptions& options, bool live) {
    Table table(
        {{"NAME"},
         {"STATE"},
         {"LOADED", Align::Right},
         {"FAULTS/S", Align::Right},
         {"P50", Align::Right},
         {"P99", Align::Right},
         {"DEMAND", Align::Right},
         {"REPLAY", Align::Right},
         {"READ", Align::Right},
         {"PARKED", Align::Right},
         {"OLDEST", Align::Right}}
    );
    auto rows = nlohmann::json::array();
    for (const auto& [name, sample] : after.sessions) {
        const auto earlier = before.sessions.find(name);
        const auto rates = rates_between(
            earlier == before.sessions.end() ? SessionSample{} : earlier->second, sample,
            after.when - before.when
        );
        rows.push_back(row_json(name, sample, rates));
        table.add(
            {name,
             {sample.state, color_of_state(sample.state)},
             loaded(sample),
             fmt::format("{:.0f}", rates.faults),
             micros(rates.p50),
             micros(rates.p99),
             bytes_rate(rates.demand),
             bytes_rate(rates.replay),
             bytes_rate(rates.read),
             std::to_string(sample.parked),
             sample.oldest_usec == 0 ? std::string() : format_timespan(sample.oldest_usec)}
        );
    }
    if (live) fmt::print("{}", kHome);
    auto quiet = options;
    quiet.pager = false;
    print_table(table, rows, "sessions", quiet);
    if (options.json == JsonMode::Off) fmt::print("{}{}", after.cache, after.overlays);
    (void)fflush(stdout);
}

} // namespace

Result<int> verb_top(const TopArguments& arguments, const OutputOptions& options) {
    auto interval = kInterval;
    if (!arguments.interval.empty()) {
        THAW_TRY(interval, parse_timespan(arguments.interval));
    }
    if (interval == 0) return fail(EINVAL, "interval: must be more than nothing");
    THAW_TRY(auto client, Client::open(options));
    const bool live = options.json == JsonMode::Off && is_terminal(1) && arguments.iterations == 0;
    const auto rounds = live ? 0 : std::max(1U, arguments.iterations);
    THAW_TRY(auto before, look(client, arguments.names));
    for (unsigned round = 1; rounds == 0 || round <= rounds; ++round) {
        usleep(static_cast<useconds_t>(interval));
        THAW_TRY(auto after, look(client, arguments.names));
        show(before, after, options, live);
        before = std::move(after);
    }
    return kExitOk;
}

} // namespace thaw::ctl
