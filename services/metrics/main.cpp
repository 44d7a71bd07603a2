// SPDX-License-Identifier: MIT

// thaw-metrics: the counters of all daemons as OpenMetrics text, for scrapers that speak HTTP over
// a UNIX socket. Started by thaw-metrics.socket; it has no privileges and keeps nothing.

#include "build_config.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "server.hpp"
#include "systemd/notify.hpp"

#include <signal.h>
#include <stdlib.h>

#include <string_view>

namespace {

using namespace thaw;

Result<int> serve() {
    THAW_TRY(auto fds, take_listen_fds());
    if (fds.size() != 1) return fail(EINVAL, "not started by thaw-metrics.socket");
    THAW_TRY(auto loop, EventLoop::create());
    THAW_TRY(auto bus, Bus::open_system());
    THAW_CHECK(bus.attach(loop));
    THAW_TRY(
        const auto terminate, loop.add_signal(
                                  SIGTERM, [&] { loop.exit(0); }, "sigterm", priority::kTerminate
                              )
    );
    // Without the bus there is nothing to say; the socket starts us again.
    THAW_TRY(
        const auto disconnected,
        bus.match_signal(
            {}, "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local", "Disconnected",
            [&](BusMessage&) { loop.exit(EXIT_FAILURE); }
        )
    );
    metrics::Server server(loop, bus, std::move(fds[0].fd));
    THAW_CHECK(server.start());
    notify_ready("Answering.");
    return loop.run();
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::string_view(argv[1]) == "--version") {
        fmt::print("thaw-metrics {}\n", THAW_VERSION);
        return EXIT_SUCCESS;
    }
    if (argc > 1) {
        const bool help = std::string_view(argv[1]) == "--help";
        fmt::print(
            help ? stdout : stderr,
            "thaw-metrics: started by thaw-metrics.socket, takes no options\n"
        );
        return help ? EXIT_SUCCESS : 2;
    }
    log_init("thaw-metrics");
    const auto code = serve();
    if (code) return *code;
    log_error("thaw-metrics failed: {}", code.error().message());
    return EXIT_FAILURE;
}
