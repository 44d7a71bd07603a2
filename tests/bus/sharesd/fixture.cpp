// SPDX-License-Identifier: MIT
#include "fixture.hpp"

#include "core/file.hpp"
#include "core/names.hpp"
#include "fakes/daemon_launch.hpp"
#include "fakes/must.hpp"
#include "unit_files.hpp"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>

namespace thaw::sharesd {

namespace {

constexpr const char* kConfig = "/run/sharesd.conf";
constexpr const char* kProgram = "/run/virtiofsd";
constexpr const char* kLog = "/run/sharesd.log";
constexpr mode_t kExecutable = 0755;

using fakes::must;

std::string object(const std::string& tag) {
    return encode_object_path(shares1::kSharePrefix, share_id("vm", tag));
}

} // namespace

void SharesdTest::SetUp() {
    for (const char* folder : {"/run/thaw", "/run/systemd", kSource, "/run/other"})
        ASSERT_TRUE(remove_tree(folder));
    for (const char* folder :
         {paths::kShares, paths::kSharesRuntime, paths::kRuntimeUnits, kSource, "/run/other"})
        ASSERT_TRUE(make_directories(folder));
    // Enough of a virtiofsd to be asked what it is.
    ASSERT_TRUE(
        write_file_atomic(kProgram, "#!/bin/sh\nexec echo '{\"type\": \"fs\"}'\n", kExecutable)
    );
    configure("");
    loop_.emplace(must(EventLoop::create()));
    private_bus_ = must(fakes::PrivateBus::start());
    private_bus_->use_as_system_bus();
    start_systemd();
    start_client();
}

void SharesdTest::TearDown() {
    kill_daemon();
    if (HasFailure()) {
        const auto log = read_file(kLog);
        std::cerr << (log ? *log : "") << '\n';
    }
    slots_.clear();
    bus_.reset();
    processes_.clear();
    systemd_.reset();
    private_bus_.reset();
}

void SharesdTest::configure(const std::string& lines) {
    const auto text = fmt::format(
        "[Shares]\nAllowedSources=/run\nVirtiofsdPath={}\nLimitNOFILE={}\nSettleSec=10ms\n"
        "RestartDelaySec=10ms\nRestartLimit=2\nStartTimeoutSec=1s\n{}",
        kProgram, kLimit, lines
    );
    ASSERT_TRUE(write_file_atomic(kConfig, text));
}

std::string SharesdTest::log() {
    return must(read_file(kLog));
}

void SharesdTest::start_systemd() {
    systemd_ = must(fakes::FakeSystemd::create(*loop_, must(private_bus_->connect(*loop_))));
    systemd_->on_state([this](const std::string& unit, fakes::FakeUnit& state) {
        if (!unit.ends_with(".service") || !unit.starts_with("thaw-virtiofsd@")) return;
        processes_.erase(unit);
        state.main_pid = 0;
        if (state.active_state != "active") return;
        auto& process = processes_[unit] =
            std::make_unique<DaemonProcess>(bound_source_, given_limit_);
        state.main_pid = static_cast<std::uint32_t>(process->pid());
    });
    ASSERT_TRUE(until([this] { return systemd_->owns_name(); }));
    for (const char* tag : {"tag", "other"}) {
        systemd_->add_unit(service(tag));
        systemd_->add_unit(socket(tag));
    }
    systemd_->add_unit("vm.service");
    systemd_->add_unit("drop-caches@vm.service");
}

void SharesdTest::start_client() {
    register_bus_errors(shares1::kErrors);
    bus_.emplace(must(private_bus_->connect(*loop_)));
    slots_.push_back(must(bus_->match_signal(
        shares1::kBusName, "", shares1::kShareInterface, "LevelChanged",
        [this](BusMessage& message) {
            const char *resource = nullptr, *before = nullptr, *after = nullptr;
            if (message.read("sss", &resource, &before, &after))
                levels_.push_back(fmt::format(
                    "{}{}>{}", resource == std::string_view("memory") ? "memory:" : "", before,
                    after
                ));
        }
    )));
    slots_.push_back(must(bus_->match_signal(
        shares1::kBusName, "", shares1::kShareInterface, "Lost",
        [this](BusMessage& message) {
            const char *result = nullptr, *name = nullptr;
            if (message.read("ss", &result, &name))
                signals_.push_back(fmt::format("Lost {} {}", result, name));
        }
    )));
    slots_.push_back(must(bus_->match_signal(
        shares1::kBusName, shares1::kPath, shares1::kManagerInterface, "ShareRemoved",
        [this](BusMessage& message) {
            const char *vm = nullptr, *tag = nullptr, *path = nullptr, *result = nullptr;
            if (message.read("ssos", &vm, &tag, &path, &result))
                signals_.push_back(fmt::format("ShareRemoved {} {}", tag, result));
        }
    )));
    slots_.push_back(must(bus_->watch_name(shares1::kBusName, [this](bool owned) {
        owned_ = owned;
    })));
}

void SharesdTest::start_daemon() {
    const Fd log(open(kLog, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    daemon_ = fakes::launch_daemon(
        {.program = SHARESD,
         .descriptors = {},
         .environment = {{"THAW_SHARESD_CONFIG", kConfig}, {"THAW_LOG_LEVEL", "debug"}},
         .log = log.get()}
    );
    ASSERT_GT(daemon_, 0);
    ASSERT_TRUE(until([this] { return owned_; })) << must(read_file(kLog));
}

void SharesdTest::kill_daemon() {
    if (daemon_ <= 0) return;
    kill(daemon_, SIGKILL);
    int status = 0;
    waitpid(daemon_, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        << "the daemon had ended by itself: " << status;
    daemon_ = -1;
    EXPECT_TRUE(until([this] { return !owned_; }));
}

Reply SharesdTest::call(
    const std::string& path, const char* interface, const char* member,
    const std::function<Result<>(BusMessage&)>& fill
) {
    auto message = must(bus_->new_call(shares1::kBusName, path, interface, member));
    if (fill)
        if (auto filled = fill(message); !filled) return {"unfilled", filled.error().message(), {}};
    std::optional<Result<BusMessage>> got;
    const auto pending =
        bus_->call(std::move(message), [&](Result<BusMessage> reply) { got = std::move(reply); });
    if (!until([&] { return got.has_value(); }, 30 * kUsecPerSec)) return {"no answer", "", {}};
    if (*got) return {"", "", std::move(**got)};
    std::string name((*got).error().bus_name());
    return {name.substr(name.rfind('.') + 1), (*got).error().message(), {}};
}

Reply SharesdTest::add(const std::string& tag, const Options& options) {
    return call(
        shares1::kPath, shares1::kManagerInterface, "AddShare",
        [&](BusMessage& m) -> Result<> {
            THAW_CHECK(m.append("sss", "vm", tag.c_str(), kSource));
            THAW_CHECK(m.open_container('a', "{sv}"));
            if (options)
                if (auto done = options(m); !done) return done;
            THAW_CHECK(m.close_container());
            return m.append("t", std::uint64_t{0});
        }
    );
}

Reply SharesdTest::call_share(
    const char* member, const std::function<Result<>(BusMessage&)>& fill, const std::string& tag
) {
    return call(object(tag), shares1::kShareInterface, member, fill);
}

Reply SharesdTest::remove(const std::string& tag) {
    return call(shares1::kPath, shares1::kManagerInterface, "RemoveShare", [&](BusMessage& m) {
        return m.append("sst", "vm", tag.c_str(), std::uint64_t{1});
    });
}

std::string SharesdTest::text(const char* property, const std::string& tag) {
    auto reply = call(object(tag), "org.freedesktop.DBus.Properties", "Get", [&](BusMessage& m) {
        return m.append("ss", shares1::kShareInterface, property);
    });
    const char* value = nullptr;
    if (!reply.message || !reply.message.read("v", "s", &value)) return reply.error;
    return value;
}

std::uint64_t SharesdTest::number(const char* property, const std::string& tag) {
    auto reply = call(object(tag), "org.freedesktop.DBus.Properties", "Get", [&](BusMessage& m) {
        return m.append("ss", shares1::kShareInterface, property);
    });
    std::uint64_t value = UINT64_MAX;
    if (reply.message) (void)reply.message.read("v", "t", &value);
    return value;
}

bool SharesdTest::wait_text(
    const char* property, const std::string& value, const std::string& tag
) {
    const auto deadline = now_monotonic() + 10 * kUsecPerSec;
    while (text(property, tag) != value) {
        if (now_monotonic() > deadline) return false;
        fakes::run_for(*loop_, 5 * kUsecPerMsec);
    }
    return true;
}

std::string SharesdTest::service(const std::string& tag) {
    return share_service("vm", tag);
}

std::string SharesdTest::socket(const std::string& tag) {
    return share_socket_unit("vm", tag);
}

void SharesdTest::expect_clean(const std::string& tag) {
    EXPECT_TRUE(until([&] { return !processes_.contains(service(tag)); })) << "a process is left";
    for (const auto& path :
         {drop_in_path(paths::kRuntimeUnits, service(tag)),
          drop_in_path(paths::kRuntimeUnits, socket(tag)),
          fmt::format("{}/vm:{}.json", paths::kSharesRuntime, tag), paths::share_socket("vm", tag)})
        EXPECT_TRUE(until([&] { return !std::filesystem::exists(path); }, kUsecPerSec)) << path;
}

void SharesdTest::end_daemon(
    const std::string& result, int code, int status, const std::string& tag
) {
    processes_.erase(service(tag));
    systemd_->change_unit(service(tag), [&](fakes::FakeUnit& unit) {
        unit.active_state = result == "success" ? "inactive" : "failed";
        unit.result = result;
        unit.exec_main_code = code;
        unit.exec_main_status = status;
        unit.main_pid = 0;
    });
}

} // namespace thaw::sharesd
