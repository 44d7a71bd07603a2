// SPDX-License-Identifier: MIT
// thaw-standin-vmm: a test program that speaks Firecracker's protocol. See README.md.
#include "api.hpp"
#include "command_line.hpp"
#include "death.hpp"
#include "touch_guard.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <thread>

namespace thaw::standin {
namespace {

/// Time since exec from /proc/self/stat (field 22, clock ticks since boot); 0 when unreadable.
std::uint64_t since_exec_us() {
    const auto text = read_file("/proc/self/stat");
    const std::size_t paren = text ? text->rfind(')') : std::string::npos;
    if (paren == std::string::npos) {
        return 0;
    }
    std::size_t at = paren + 1;
    for (int field = 2; field < 22; ++field) { // each step leads to the next field
        at = text->find(' ', at + (field == 2 ? 0 : 1));
        if (at == std::string::npos) {
            return 0;
        }
    }
    const std::uint64_t ticks = std::strtoull(text->c_str() + at + 1, nullptr, 10);
    timespec boot{};
    ::clock_gettime(CLOCK_BOOTTIME, &boot);
    const auto now = static_cast<std::uint64_t>(boot.tv_sec) * 1'000'000 +
                     static_cast<std::uint64_t>(boot.tv_nsec) / 1000;
    const auto started = ticks * 1'000'000 / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
    return now > started ? now - started : 0;
}

int serve(const CommandLine& options, const Profile& profile, std::uint64_t main_started) {
    die_if_told(profile, "exec");
    prepare_sigterm(profile);
    if (profile.count_sigbus) {
        install_sigbus_counter();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(profile.api_delay_ms));
    if (profile.has("no_api")) {
        for (;;) {
            ::pause();
        }
    }
    Machine machine(profile);
    Api api(machine, profile, options.id);
    HttpServer server;
    if (auto done = server.listen(options.api_socket); !done) {
        fmt::print(stderr, "thaw-standin-vmm: {}\n", done.error());
        return 1;
    }
    api.set_start({since_exec_us(), (now_ns() - main_started) / 1000});
    const int code = server.run([&](const HttpRequest& request) { return api.handle(request); });
    std::fflush(nullptr);
    ::_exit(code); // vCPU threads may be blocked in page faults for ever: nothing is torn down
}

int run(int argc, char** argv) {
    const std::uint64_t started = now_ns();
    const auto options = parse_command_line(argc, argv);
    if (!options) {
        fmt::print(stderr, "thaw-standin-vmm: {}\n", options.error());
        return 2;
    }
    if (options->mode != CommandLine::Mode::serve) {
        return run_tool(*options);
    }
    Profile profile;
    if (!options->profile.empty()) {
        auto loaded = load_profile(options->profile);
        if (!loaded) {
            fmt::print(stderr, "thaw-standin-vmm: {}\n", loaded.error());
            return 2;
        }
        profile = std::move(*loaded);
    }
    return serve(*options, profile, started);
}

} // namespace
} // namespace thaw::standin

int main(int argc, char** argv) {
    return thaw::standin::run(argc, argv);
}
