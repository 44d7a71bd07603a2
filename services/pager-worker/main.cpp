// SPDX-License-Identifier: MIT
#include "build_config.hpp"
#include "core/names.hpp"
#include "log/log.hpp"
#include "worker.hpp"

#include <fmt/core.h>

#include <getopt.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <string_view>

namespace {

using namespace thaw;

constexpr int kChannelFd = 3;
constexpr int kExitUsage = 2;

constexpr const char* kHelp =
    "thaw-pager-worker MODE [OPTIONS...]\n\n"
    "Serves the page faults of one VM. Started by thaw-pagerd.\n\n"
    "Modes:\n"
    "  --session           Serve the session that the broker names on descriptor 3\n"
    "  --pause             Do nothing until SIGTERM: keeps the workers' unit alive\n"
    "  -h --help           Show this help\n"
    "     --version        Show the version\n\n"
    "Options:\n"
    "  --engine=NAME       auto (default), io_uring, io_uring-polled (without\n"
    "                      READ_MULTISHOT, as before Linux 6.7) or epoll\n"
    "  --control=PATH      Control socket of the broker\n"
    "  --pressure=DIR      Folder with the files memory and io of the host's pressure\n"
    "                      (default /proc/pressure)\n\n"
    "See thaw-pager-worker(8).\n";

enum class Mode { None, Session, Pause };

struct Arguments {
    Mode mode = Mode::None;
    worker::WorkerOptions worker{
        .engine = worker::EngineChoice::Auto,
        .control_path = paths::kPagerControl,
        .pressure_directory = "",
    };
    std::optional<int> exit_code; // the answer was printed already
};

std::optional<worker::EngineChoice> engine_of(std::string_view word) {
    if (word == "auto") return worker::EngineChoice::Auto;
    if (word == "epoll") return worker::EngineChoice::Epoll;
    if (word == "io_uring") return worker::EngineChoice::IoUring;
    if (word == "io_uring-polled") return worker::EngineChoice::IoUringPolled;
    return std::nullopt;
}

Arguments parse(int argc, char** argv) {
    enum Option { Session = 256, Pause, Version, Engine, Control, PressureDir };
    static constexpr option kOptions[] = {
        {"session", no_argument, nullptr, Session},
        {"pause", no_argument, nullptr, Pause},
        {"help", no_argument, nullptr, 'h'},
        {"version", no_argument, nullptr, Version},
        {"engine", required_argument, nullptr, Engine},
        {"control", required_argument, nullptr, Control},
        {"pressure", required_argument, nullptr, PressureDir},
        {nullptr, 0, nullptr, 0},
    };
    Arguments arguments;
    for (int c = 0; (c = ::getopt_long(argc, argv, "h", kOptions, nullptr)) >= 0;) {
        switch (c) {
        case Session:
            arguments.mode = Mode::Session;
            break;
        case Pause:
            arguments.mode = Mode::Pause;
            break;
        case 'h':
            fmt::print("{}", kHelp);
            arguments.exit_code = EXIT_SUCCESS;
            return arguments;
        case Version:
            fmt::print("thaw {}\n", THAW_VERSION);
            arguments.exit_code = EXIT_SUCCESS;
            return arguments;
        case Engine:
            if (const auto engine = engine_of(optarg)) {
                arguments.worker.engine = *engine;
                break;
            }
            fmt::print(stderr, "thaw-pager-worker: unknown engine \"{}\"\n", optarg);
            arguments.exit_code = kExitUsage;
            return arguments;
        case Control:
            arguments.worker.control_path = optarg;
            break;
        case PressureDir:
            arguments.worker.pressure_directory = optarg;
            break;
        default: // getopt said what was wrong
            arguments.exit_code = kExitUsage;
            return arguments;
        }
    }
    if (optind < argc || arguments.mode == Mode::None) {
        fmt::print(stderr, "thaw-pager-worker: one mode is needed, see --help\n");
        arguments.exit_code = kExitUsage;
    }
    return arguments;
}

// sd_notify() without libsystemd, which would cost each worker more time to load than all else.
void tell_manager(std::string_view state) {
    const char* path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un address{};
    if (path == nullptr || std::strlen(path) >= sizeof address.sun_path) return;
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    std::memcpy(address.sun_path, path, length);
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
    const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return;
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
    static_cast<void>(::sendto(
        socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
        reinterpret_cast<const sockaddr*>(&address), size
    ));
}

// The workers' unit lives as long as this does; the workers themselves are not its children.
int pause_until_terminated() {
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGTERM);
    ::sigaddset(&signals, SIGINT);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    tell_manager("READY=1\nSTATUS=Holding the workers' control group");
    int received = 0;
    while (::sigwait(&signals, &received) != 0)
        continue;
    tell_manager("STOPPING=1");
    return EXIT_SUCCESS;
}

int serve(const worker::WorkerOptions& options) {
    if (const auto set = set_cloexec(kChannelFd, true); !set) {
        log_error("descriptor 3 is not a channel to a broker: {}", set.error().message());
        return kExitUsage;
    }
    const auto served = worker::run_worker(Fd(kChannelFd), options);
    if (served) return EXIT_SUCCESS;
    if (served.error().code() == ECONNRESET) { // the broker went away before there was a VM
        log_debug("{}", served.error().message());
        return EXIT_SUCCESS;
    }
    log_error("{}", served.error().message());
    return EXIT_FAILURE;
}

} // namespace

int main(int argc, char** argv) {
    try {
        const Arguments arguments = parse(argc, argv);
        if (arguments.exit_code) return *arguments.exit_code;
        log_init("thaw-pager-worker");
        return arguments.mode == Mode::Pause ? pause_until_terminated() : serve(arguments.worker);
    } catch (const std::exception& error) { // no memory: another worker takes over
        static_cast<void>(std::fputs(error.what(), stderr));
        return EXIT_FAILURE;
    }
}
