// SPDX-License-Identifier: MIT

// list, jobs, sessions: one table each.

#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "client.hpp"
#include "exit_codes.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

namespace {

Table::Cell state_cell(const std::string& state) {
    return {state, color_of_state(state)};
}

std::string percent(double fraction) {
    return fmt::format("{:.0f}%", fraction * 100);
}

} // namespace

Result<int> verb_list(const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(auto reply, client.manager("ListInstances", ""));
    Table table({{"NAME"}, {"STATE"}, {"IMAGE"}, {"UNIT"}});
    auto rows = nlohmann::json::array();
    auto read = for_each_struct(reply, "sssso", [&](BusMessage& message) -> Result<> {
        const char* name = nullptr;
        const char* unit = nullptr;
        const char* state = nullptr;
        const char* image = nullptr;
        const char* path = nullptr;
        THAW_CHECK(message.read("sssso", &name, &unit, &state, &image, &path));
        table.add({name, state_cell(state), image, unit});
        rows.push_back(
            {{"name", name}, {"unit", unit}, {"state", state}, {"image", image}, {"object", path}}
        );
        return {};
    });
    THAW_CHECK(std::move(read));
    print_table(table, rows, "VMs", options);
    return kExitOk;
}

Result<int> verb_jobs(const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(auto reply, client.manager("ListJobs", ""));
    Table table({{"ID", Align::Right}, {"VM"}, {"KIND"}, {"STATE"}, {"PROGRESS", Align::Right}});
    auto rows = nlohmann::json::array();
    auto read = for_each_struct(reply, "usssdo", [&](BusMessage& message) -> Result<> {
        std::uint32_t id = 0;
        const char* instance = nullptr;
        const char* kind = nullptr;
        const char* state = nullptr;
        double progress = 0;
        const char* path = nullptr;
        THAW_CHECK(message.read("usssdo", &id, &instance, &kind, &state, &progress, &path));
        table.add({std::to_string(id), instance, kind, state_cell(state), percent(progress)});
        rows.push_back(
            {{"id", id},
             {"instance", instance},
             {"kind", kind},
             {"state", state},
             {"progress", progress},
             {"object", path}}
        );
        return {};
    });
    THAW_CHECK(std::move(read));
    print_table(table, rows, "jobs", options);
    return kExitOk;
}

Result<int> verb_sessions(const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(
        auto reply,
        client.simple(
            pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "ListSessions", ""
        )
    );
    Table table(
        {{"NAME"},
         {"STATE"},
         {"MEMORY", Align::Right},
         {"WORKER", Align::Right},
         {"RESTARTS", Align::Right},
         {"FAULTS", Align::Right},
         {"PAGES", Align::Right},
         {"ZERO", Align::Right},
         {"REMOVED", Align::Right},
         {"PARKED", Align::Right},
         {"READ", Align::Right}}
    );
    auto rows = nlohmann::json::array();
    auto read = for_each_struct(reply, "ssssto", [&](BusMessage& message) -> Result<> {
        const char* name = nullptr;
        const char* id = nullptr;
        const char* unit = nullptr;
        const char* state = nullptr;
        std::uint64_t size = 0;
        const char* path = nullptr;
        THAW_CHECK(message.read("ssssto", &name, &id, &unit, &state, &size, &path));
        // A session may end between the two calls: its counters are unknown then.
        const auto session = client.properties(pager1::kBusName, path, pager1::kSessionInterface);
        const auto known = session.value_or(Properties{});
        const auto number = [&](const char* key) {
            return session ? std::to_string(known.number(key)) : std::string();
        };
        table.add(
            {name, state_cell(state), format_size(size), number("WorkerPID"),
             number("WorkerRestarts"), number("Faults"), number("PagesInstalled"),
             number("ZeroPages"), number("RemovedPages"), number("Parked"),
             session ? format_size(known.number("BytesRead")) : std::string()}
        );
        nlohmann::json row = {{"name", name},        {"id", id},
                              {"unit", unit},        {"state", state},
                              {"memory_size", size}, {"object", path}};
        row["properties"] = known.values;
        rows.push_back(std::move(row));
        return {};
    });
    THAW_CHECK(std::move(read));
    print_table(table, rows, "sessions", options);
    return kExitOk;
}

} // namespace thaw::ctl
