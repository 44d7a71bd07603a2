// SPDX-License-Identifier: MIT
#pragma once

#include "result.hpp"
#include "snapshot_file.hpp"

#include <string>

namespace thaw::standin {

struct CommandLine {
    enum class Mode {
        serve,
        help,
        version,
        make_snapshot,
        hash,
    };

    Mode mode = Mode::serve;
    std::string api_socket;
    std::string id = "anonymous-instance";
    std::string profile;
    std::string target; ///< directory of --make-snapshot, file of --hash
    bool sparse = false;
    SnapshotState state; ///< of the snapshot to be made
};

Result<CommandLine> parse_command_line(int argc, char** argv);
/// Everything but serving; answers the exit code.
int run_tool(const CommandLine& options);

} // namespace thaw::standin
