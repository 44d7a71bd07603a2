// SPDX-License-Identifier: MIT

// df: volumes, their levels and what is promised of them; once, or again and again.

#include "exit_codes.hpp"
#include "guard_view.hpp"
#include "verbs.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cmath>

namespace thaw::ctl {

namespace {

constexpr useconds_t kRefresh = 1000000;
constexpr const char* kHomeAndClear = "\x1b[H\x1b[J";

std::atomic<bool> stopped{false};

std::string rate_text(const Properties& volume) {
    const auto rate = std::llround(volume.fraction("GrowthRate"));
    if (std::abs(rate) < 1024) return {};
    return fmt::format(
        "{}{}/s", rate > 0 ? "+" : "-", format_size(static_cast<std::uint64_t>(std::abs(rate)))
    );
}

std::string left_text(const Properties& volume) {
    const auto left = volume.number("TimeToFullUSec");
    if (left == UINT64_MAX) return {};
    return format_timespan(left / kUsecPerSec * kUsecPerSec);
}

Table volume_table(const GuardView& view) {
    Table table(
        {{"MOUNT POINT"},
         {"LEVEL"},
         {"SIZE", Align::Right},
         {"FREE", Align::Right},
         {"INODES", Align::Right},
         {"PROMISED", Align::Right},
         {"RESERVE"},
         {"RELEASABLE", Align::Right},
         {"GROWTH", Align::Right},
         {"FULL IN", Align::Right}}
    );
    for (const auto& volume : view.volumes) {
        const auto level = volume.text("Level");
        const auto state = volume.text("State");
        const auto inodes = volume.number("TotalInodes");
        table.add(
            {volume.text("MountPoint"),
             {level, color_of_level(level)},
             format_size(volume.number("TotalBytes")),
             format_size(volume.number("FreeBytes")),
             inodes == 0 ? std::string() : std::to_string(volume.number("FreeInodes")),
             format_size(volume.number("PromisedBytes")),
             {state, color_of_reserve(state)},
             format_size(volume.number("ReleasableBytes")),
             rate_text(volume),
             left_text(volume)}
        );
    }
    return table;
}

Table lease_table(const GuardView& view) {
    Table table({{"LEASE"}, {"MOUNT POINT"}, {"BYTES", Align::Right}, {"WHO"}, {"WHY"}});
    for (const auto& lease : view.leases) {
        auto where = lease["volume"].get<std::string>();
        for (const auto& volume : view.volumes)
            if (volume.text("Id") == where) where = volume.text("MountPoint");
        table.add(
            {lease["id"].get<std::string>(), where,
             format_size(lease["bytes"].get<std::uint64_t>()), lease["who"].get<std::string>(),
             lease["why"].get<std::string>()}
        );
    }
    return table;
}

nlohmann::json as_json(const GuardView& view) {
    auto volumes = nlohmann::json::array();
    for (const auto& volume : view.volumes)
        volumes.push_back(volume.values);
    return {{"volumes", std::move(volumes)}, {"leases", view.leases}};
}

std::string as_text(const GuardView& view, const OutputOptions& options) {
    const bool colors = wants_color(STDOUT_FILENO);
    auto text = volume_table(view).format(options.legend, colors);
    if (!view.leases.empty()) text += "\n" + lease_table(view).format(options.legend, colors);
    return text;
}

} // namespace

Result<int> verb_df(bool watch, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    if (!watch) {
        THAW_TRY(const auto view, read_guard(client));
        if (options.json != JsonMode::Off)
            print_json(as_json(view), options.json);
        else
            print_text(as_text(view, options), options);
        return kExitOk;
    }
    struct sigaction action{};
    action.sa_handler = [](int) { stopped = true; };
    for (const int number : {SIGINT, SIGTERM})
        ::sigaction(number, &action, nullptr);
    while (!stopped) {
        const auto view = read_guard(client);
        // It may be started anew at this moment.
        if (!view)
            print_error(view.error().message());
        else if (options.json != JsonMode::Off)
            print_json(as_json(*view), JsonMode::Short);
        else if (is_terminal(STDOUT_FILENO))
            fmt::print("{}{}", kHomeAndClear, as_text(*view, options));
        else
            fmt::print("{}\n", as_text(*view, options));
        // Nobody reads any more.
        if (std::fflush(stdout) != 0) return kExitFailure;
        ::usleep(kRefresh);
    }
    return kExitOk;
}

} // namespace thaw::ctl
