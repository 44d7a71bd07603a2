// SPDX-License-Identifier: MIT
// thaw-rootfs: from the sockets that PID 1 passes to nbdkit with our plugin. nbdkit takes every
// socket it is handed for one of blocks, so the control socket is moved behind them first.
#include "build_config.hpp"
#include "core/fd.hpp"
#include "systemd/notify.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

using namespace thaw; // NOLINT(google-build-using-namespace): nobody includes this

constexpr int kFirst = 3; // SD_LISTEN_FDS_START
constexpr int kParking = 100;

// At the numbers from kFirst on, in this order, not closed on exec.
Result<> place(const std::vector<int>& sockets) {
    std::vector<Fd> parked;
    for (const int socket : sockets) {
        parked.emplace_back(::fcntl(socket, F_DUPFD_CLOEXEC, kParking));
        if (!parked.back()) return fail_errno(errno, "move a socket");
        ::close(socket);
    }
    int next = kFirst;
    for (const auto& socket : parked)
        if (::dup2(socket.get(), next++) < 0) return fail_errno(errno, "place a socket");
    return {};
}

Result<> launch(int argc, char** argv) {
    THAW_TRY(auto passed, take_listen_fds());
    std::vector<int> sockets;
    int control = -1;
    for (auto& socket : passed) {
        if (socket.name == "control" && control < 0)
            control = socket.fd.release();
        else
            sockets.push_back(socket.fd.release());
    }
    if (sockets.empty()) return fail(EINVAL, "no socket was passed: start the socket unit");
    const auto blocks = sockets.size();
    if (control >= 0) sockets.push_back(control);
    THAW_CHECK(place(sockets));
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(blocks).c_str(), 1);

    std::vector<std::string> command{"nbdkit", THAW_LIBEXECDIR "/nbdkit-thaw-rootfs-plugin.so"};
    std::vector<std::string> settings(argv + 1, argv + argc);
    constexpr std::string_view kPlugin = "--plugin=";
    if (!settings.empty() && settings.front().starts_with(kPlugin)) {
        command.back() = settings.front().substr(kPlugin.size());
        settings.erase(settings.begin());
    }
    command.insert(command.end(), settings.begin(), settings.end());
    if (control >= 0) command.push_back(fmt::format("control-fd={}", kFirst + blocks));
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (auto& word : command)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ::execvp("nbdkit", arguments.data());
    return fail_errno(errno, "start nbdkit");
}

} // namespace

int main(int argc, char** argv) {
    const auto failed = launch(argc, argv);
    fmt::print(stderr, "thaw-rootfs: {}\n", failed.error().message());
    return 1;
}
