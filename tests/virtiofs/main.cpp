// SPDX-License-Identifier: MIT

// thaw-fuse-client SOCKET: a guest without a guest. Reads one command per line, answers each with
// one line; see README.md.

#include "commands.hpp"

#include <signal.h>

#include <cstdio>
#include <iostream>

namespace {

void say(const nlohmann::json& answer) {
    fmt::print("{}\n", thaw::json_dump(answer));
    (void)std::fflush(stdout);
}

int serve(const std::string& socket) {
    using namespace thaw::virtiofs;
    auto client = FuseClient::start(socket);
    if (!client) {
        say(failure(client.error(), true));
        return 1;
    }
    Commands commands(&*client);
    say(commands.greeting());
    for (std::string line; std::getline(std::cin, line);)
        say(commands.run(line));
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2 || argv[1][0] == '-') {
        fmt::print(stderr, "usage: thaw-fuse-client SOCKET\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    try {
        return serve(argv[1]);
    } catch (const std::exception& error) {
        fmt::print(stderr, "thaw-fuse-client: {}\n", error.what());
        return 1;
    }
}
