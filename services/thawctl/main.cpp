// SPDX-License-Identifier: MIT

#include "command_line.hpp"
#include "exit_codes.hpp"
#include "log/log.hpp"
#include "reserve/hint.hpp"

#include <unistd.h>

#include <cstdio>
#include <exception>

namespace {

using namespace thaw::ctl;

// What the user did wrong with the command line, or what --help and --version print.
int conclude_parse(const CLI::App& app, const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? kExitOk : kExitUsage;
}

int run(int argc, char** argv) {
    setup_locale();
    thaw::log_init("thawctl");
    // Entries are for the journal; the user is told on stdout and stderr.
    thaw::set_log_target(thaw::LogTarget::Journal);
    CLI::App app("Restore and manage microVMs", "thawctl");
    CommandLine line;
    describe(app, line);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return conclude_parse(app, error);
    }
    if (const auto completed = complete(line); !completed) {
        print_error(completed.error().message());
        return kExitUsage;
    }
    const auto code = line.run();
    // A full disk or a closed pipe must not look like success.
    if (std::fflush(stdout) != 0 && code && *code == kExitOk) return kExitFailure;
    if (code) return *code;
    print_error(code.error().message());
    // What a daemon answers has its own hint; the files that we write ourselves are images.
    if (code.error().bus_name().empty() && !line.image.root.empty())
        if (const auto hint = thaw::reserve::release_hint(code.error().code(), line.image.root);
            !hint.empty())
            print_hint(hint);
    return exit_code_of(code.error());
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        (void)std::fprintf(stderr, "thawctl: %s\n", error.what());
        return kExitFailure;
    }
}
