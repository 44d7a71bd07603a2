// SPDX-License-Identifier: MIT
#pragma once

#include "output.hpp"
#include "verbs.hpp"

#include <CLI/CLI.hpp>

#include <functional>
#include <string>

namespace thaw::ctl {

// Everything the parser fills; `run` is the verb that was chosen, ready to be called.
struct CommandLine {
    OutputOptions output;
    std::string json = "off";
    std::string image_root;
    RestoreArguments restore;
    StopArguments stop;
    ImageArguments image;
    ShareArguments share;
    CacheArguments cache;
    ReserveArguments reserve;
    RootfsArguments rootfs;
    bool watch = false;
    TopArguments top;
    SessionArguments session;
    SnapshotArguments snapshot;
    std::string name;
    std::string id;
    std::string key;
    std::string value;
    std::function<Result<int>()> run;
};

// CLI11 calls a check with the text and shows what it returns; "" is fine.
template <class Parser>
CLI::Validator checked_by(Parser parser) {
    return CLI::Validator(
        [parser](const std::string& text) {
            const auto parsed = parser(text);
            return parsed ? std::string() : parsed.error().message();
        },
        ""
    );
}

// Describes all verbs and options to the parser; `line` must outlive it.
void describe(CLI::App& app, CommandLine& line);
// The part of describe() for images.
void describe_image(CLI::App& app, CommandLine& line);
// The part of describe() for shares and caches.
void describe_shares(CLI::App& app, CommandLine& line);
// The part of describe() for root file systems.
void describe_rootfs(CLI::App& app, CommandLine& line);
// Decides what depends on several options. EINVAL: a usage error.
Result<> complete(CommandLine& line);

} // namespace thaw::ctl
