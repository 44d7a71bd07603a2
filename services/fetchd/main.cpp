// SPDX-License-Identifier: MIT

// thaw-fetchd: fetches ranges of remote objects into descriptors it is handed. The only program of
// the suite with a network and with credentials; started by thaw-fetchd.socket. It keeps nothing
// and may be killed at any time.

#include "build_config.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "server.hpp"
#include "systemd/notify.hpp"

#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <string_view>

namespace {

using namespace thaw;

// Threads that write to targets: disks take their time, each of them on its own.
constexpr std::size_t kWriters = 4;

constexpr unsigned kPauseAfterFailure = 1; // seconds

// uid 0, the broker, and ourselves.
std::vector<uid_t> allowed_users() {
    std::vector<uid_t> users{0, ::geteuid()};
    if (const auto* pager = ::getpwnam("thaw-pager"); pager != nullptr)
        users.push_back(pager->pw_uid);
    return users;
}

Result<int> serve() {
    THAW_TRY(auto fds, take_listen_fds());
    if (fds.size() != 1) return fail(EINVAL, "not started by thaw-fetchd.socket");
    THAW_TRY(auto loaded, fetchd::load_config());
    log_config_warnings(loaded.warnings);
    const auto credentials = fetchd::load_credentials(loaded.config.credentials);
    for (const auto& warning : credentials.warnings)
        log_warning("credentials left out: {}", warning);
    THAW_TRY(auto loop, EventLoop::create());
    THAW_TRY(
        const auto terminate, loop.add_signal(
                                  SIGTERM, [&] { loop.exit(0); }, "sigterm", priority::kTerminate
                              )
    );
    THAW_CHECK(loop.enable_watchdog());
    THAW_TRY(const auto mailbox, Mailbox::create(loop));
    THAW_TRY(const auto transfers, fetchd::Transfers::create(loop));
    fetchd::Engine engine{
        .loop = loop,
        .config = loaded.config,
        .credentials = credentials,
        .transfers = *transfers,
        .mailbox = *mailbox,
    };
    while (engine.writers.size() < kWriters) {
        THAW_TRY(auto writer, Worker::start(*mailbox, "fetch-write"));
        engine.writers.push_back(std::move(writer));
    }
    fetchd::Server server(engine, std::move(fds[0].fd), allowed_users());
    THAW_CHECK(server.start());
    notify_ready("Fetching.");
    THAW_TRY(const int code, loop.run());
    notify_stopping();
    // Threads may be in the middle of a write, or of a read that never ends: nothing is taken down.
    // What is under way is lost, which those who asked see when the connection ends.
    ::_exit(code);
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::string_view(argv[1]) == "--version") {
        fmt::print("thaw-fetchd {}\n", THAW_VERSION);
        return EXIT_SUCCESS;
    }
    if (argc > 1) {
        const bool help = std::string_view(argv[1]) == "--help";
        fmt::print(
            help ? stdout : stderr, "thaw-fetchd: started by thaw-fetchd.socket, takes no options\n"
        );
        return help ? EXIT_SUCCESS : 2;
    }
    log_init("thaw-fetchd");
    const auto code = serve();
    log_error("thaw-fetchd failed: {}", code.error().message());
    // Whoever is connected has us started again at once, and again.
    ::sleep(kPauseAfterFailure);
    return EXIT_FAILURE;
}
