// SPDX-License-Identifier: MIT
#include "daemon/daemon.hpp"

#include "build_config.hpp"
#include "bus/log_control.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <getopt.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <optional>

namespace thaw {

namespace {

constexpr int kExitUsage = 2;

void print_help(const DaemonSpec& spec) {
    fmt::print(
        "{0} [OPTIONS...]\n\n"
        "{1}\n\n"
        "Started by systemd; owns {2} on the system bus.\n\n"
        "  -h --help             Show this help\n"
        "     --version          Show the version\n"
        "     --log-level=LEVEL  err, warning, notice, info or debug\n",
        spec.name, spec.description, spec.bus_name
    );
}

struct Options {
    std::optional<LogLevel> log_level;
    std::optional<int> exit_code; // nothing left to do
};

Options parse_options(int argc, char** argv, const DaemonSpec& spec) {
    enum { kVersion = 0x100, kLogLevel };
    static const option long_options[] = {
        {"help", no_argument, nullptr, 'h'},
        {"version", no_argument, nullptr, kVersion},
        {"log-level", required_argument, nullptr, kLogLevel},
        {},
    };
    Options options;
    optind = 1;
    for (int c = 0; (c = getopt_long(argc, argv, "h", long_options, nullptr)) >= 0;) {
        switch (c) {
        case 'h':
            print_help(spec);
            return {.exit_code = EXIT_SUCCESS};
        case kVersion:
            fmt::print("{} {}\n", spec.name, THAW_VERSION);
            return {.exit_code = EXIT_SUCCESS};
        case kLogLevel:
            options.log_level = log_level_from_string(optarg);
            if (options.log_level) break;
            fmt::print(stderr, "{}: no log level '{}'\n", spec.name, optarg);
            return {.exit_code = kExitUsage};
        default:
            return {.exit_code = kExitUsage};
        }
    }
    if (optind < argc) {
        fmt::print(stderr, "{}: unexpected argument '{}'\n", spec.name, argv[optind]);
        return {.exit_code = kExitUsage};
    }
    return options;
}

// The life of one daemon. Members are destroyed in reverse order: the service before what it uses.
class Daemon {
public:
    Daemon(const DaemonSpec& spec, EventLoop& loop) : spec_(spec), loop_(loop) {}

    Result<> start();
    // What ended the loop, if it was a failure.
    const std::optional<Error>& failure() const { return failure_; }

private:
    Result<> watch_bus(Bus& bus);
    void on_name(Result<> owned);
    void on_stop_signal();
    void give_up(Error error);

    const DaemonSpec& spec_;
    EventLoop& loop_;
    std::optional<Error> failure_;
    bool stopping_ = false;
    EventSource terminate_;
    EventSource interrupt_;
    std::optional<Bus> bus_;
    BusSlot log_control_;
    BusSlot disconnected_;
    BusSlot name_lost_;
    BusSlot name_;
    std::unique_ptr<DaemonService> service_;
};

Result<> Daemon::start() {
    auto stop = [this] { on_stop_signal(); };
    THAW_TRY(terminate_, loop_.add_signal(SIGTERM, stop, "sigterm", priority::kTerminate));
    THAW_TRY(interrupt_, loop_.add_signal(SIGINT, stop, "sigint", priority::kTerminate));
    THAW_CHECK(loop_.enable_watchdog());
    THAW_TRY(auto fds, take_listen_fds());
    THAW_TRY(bus_, Bus::open_system());
    Bus& bus = *bus_;
    THAW_CHECK(bus.attach(loop_));
    THAW_CHECK(watch_bus(bus));
    THAW_TRY(log_control_, export_log_control(bus));
    THAW_TRY(service_, spec_.create(DaemonContext{loop_, bus, std::move(fds)}));
    THAW_CHECK(service_->start());
    // Last: whoever sees the name finds everything exported.
    name_ = bus.request_name(spec_.bus_name, [this](Result<> owned) { on_name(std::move(owned)); });
    return {};
}

Result<> Daemon::watch_bus(Bus& bus) {
    THAW_TRY(
        disconnected_,
        bus.match_signal(
            {}, "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local", "Disconnected",
            [this](BusMessage&) { give_up({ECONNRESET, "the system bus closed the connection"}); }
        )
    );
    THAW_TRY(
        name_lost_,
        bus.match_signal(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost",
            [this](BusMessage& message) {
                const char* name = nullptr;
                if (message.read("s", &name) && spec_.bus_name == name)
                    give_up({EBUSY, "somebody else took our bus name"});
            }
        )
    );
    return {};
}

void Daemon::on_name(Result<> owned) {
    if (!owned) {
        give_up(std::move(owned).error());
        return;
    }
    if (stopping_) return;
    notify_ready(service_->status_text());
    log_event(
        LogLevel::Info, message_id::kDaemonStarted, {}, "{} {} started", spec_.name, THAW_VERSION
    );
    service_->ready();
}

void Daemon::on_stop_signal() {
    if (std::exchange(stopping_, true)) return;
    notify_stopping();
    log_event(LogLevel::Info, message_id::kDaemonStopping, {}, "{} stopping", spec_.name);
    service_->stop([this] { loop_.exit(EXIT_SUCCESS); });
}

void Daemon::give_up(Error error) {
    if (failure_) return;
    failure_ = std::move(error);
    loop_.exit(EXIT_FAILURE);
}

int run_loop(const DaemonSpec& spec) {
    std::optional<Error> failure;
    int code = EXIT_FAILURE;
    if (auto loop = EventLoop::create(); !loop) {
        failure = std::move(loop).error();
    } else {
        Daemon daemon(spec, *loop);
        if (auto started = daemon.start(); !started) {
            failure = std::move(started).error();
        } else if (auto result = loop->run(); !result) {
            failure = std::move(result).error();
        } else {
            failure = daemon.failure();
            code = *result;
        }
        // Said before the connections close: whoever sees us gone finds the reason.
        if (failure) {
            log_error("{} failed: {}", spec.name, failure->message());
            notify_failure(failure->code(), failure->message());
        }
        return failure ? EXIT_FAILURE : code;
    }
    log_error("{} failed: {}", spec.name, failure->message());
    notify_failure(failure->code(), failure->message());
    return EXIT_FAILURE;
}

} // namespace

int run_daemon(int argc, char** argv, const DaemonSpec& spec) {
    const auto options = parse_options(argc, argv, spec);
    if (options.exit_code) return *options.exit_code;
    log_init(spec.name);
    if (options.log_level) set_log_level(*options.log_level);
    return run_loop(spec);
}

} // namespace thaw
