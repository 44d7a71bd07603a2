// SPDX-License-Identifier: MIT
// Measures the cache of remote images and prints one JSON object; needs root, nginx, python3 and
// openssl. --help names the options.

#include "measures.hpp"
#include "pager/rig.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

int main(int argc, char** argv) {
    using namespace thaw::bench;
    CLI::App app(
        "Measures how a remote image comes in, and what many VMs of one cost. A real web server "
        "on\n"
        "this host, thaw-fetchd and thaw-pagerd themselves; only PID 1 and the VMMs are played."
    );
    CacheOptions options;
    options.folder = "/var/tmp";
    std::string only;
    app.add_option("--folder", options.folder, "A folder on a disk file system");
    app.add_option("--runs", options.runs, "Runs of each measurement")->capture_default_str();
    app.add_option("--image-mib", options.image_mib, "Restored whole")->capture_default_str();
    app.add_option("--vm-mib", options.vm_mib, "Of each of many VMs")->capture_default_str();
    app.add_option("--vms", options.vms)->capture_default_str();
    app.add_option("--set-mib", options.set_mib, "That each VM touches")->capture_default_str();
    app.add_option("--throttle-kib", options.throttle_kib, "Dirty bytes of the slow disk")
        ->capture_default_str();
    app.add_option("--only", only)->check(CLI::IsMember({"whole", "shared"}));
    CLI11_PARSE(app, argc, argv);
    options.folder += "/thaw-cache-bench-XXXXXX";
    if (::mkdtemp(options.folder.data()) == nullptr) give_up("make a folder");
    nlohmann::json report{{"runs", options.runs}};
    if (only != "shared") report["whole"] = measure_whole(options);
    if (only != "whole") report["shared"] = measure_shared(options);
    std::error_code ignored;
    std::filesystem::remove_all(options.folder, ignored);
    fmt::print("{}\n", report.dump(2));
    return 0;
}
