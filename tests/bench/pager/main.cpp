// SPDX-License-Identifier: MIT
// Measures the pager's worker and prints one JSON object; needs root. --help names the options.

#include "measures.hpp"
#include "rig.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <vector>

namespace {

using namespace thaw::bench;

const std::map<std::string, std::function<nlohmann::json(const Options&)>>& measures() {
    static const std::map<std::string, std::function<nlohmann::json(const Options&)>> all{
        {"faults", measure_faults}, {"populate", measure_populate}, {"replay", measure_replay},
        {"idle", measure_idle},     {"blackout", measure_blackout}, {"fairness", measure_fairness},
        {"scale", measure_scale},
    };
    return all;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Measures thaw-pager-worker against the kernel's floor and prints one JSON object.\n"
        "Medians of --runs runs, ratios within one run. blackout, fairness and scale have the "
        "real\n"
        "broker under a stand-in for PID 1; tests/bench/run has the real one."
    );
    Options options;
    options.folder = "/var/tmp";
    std::vector<std::string> only;
    std::vector<std::string> names;
    for (const auto& [name, measure] : measures())
        names.push_back(name);
    app.add_option("--folder", options.folder, "Where images go (a disk file system)");
    app.add_option("--runs", options.runs, "Runs of each measurement")->capture_default_str();
    app.add_option("--image-mib", options.image_mib, "Image of the replay")->capture_default_str();
    app.add_option("--set-mib", options.set_mib, "Working set of the replay")
        ->capture_default_str();
    app.add_option("--hot-mib", options.hot_mib, "Image of the faults")->capture_default_str();
    app.add_option("--idle-workers", options.idle_workers)->capture_default_str();
    app.add_option("--idle-seconds", options.idle_seconds)->capture_default_str();
    app.add_option("--kills", options.kills)->capture_default_str();
    app.add_option("--only", only, "Only these")->check(CLI::IsMember(names));
    CLI11_PARSE(app, argc, argv);

    options.folder += "/thaw-pager-bench-XXXXXX";
    if (::mkdtemp(options.folder.data()) == nullptr) give_up("make a folder for images");
    nlohmann::json report{{"runs", options.runs}};
    for (const auto& [name, measure] : measures())
        if (only.empty() || std::ranges::find(only, name) != only.end())
            report.update(measure(options));
    ::rmdir(options.folder.c_str());
    fmt::print("{}\n", report.dump(2));
    return 0;
}
