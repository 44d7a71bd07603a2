// SPDX-License-Identifier: MIT
#include "broker_rig.hpp"

#include "api/pager1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "core/scm.hpp"
#include "core/text.hpp"
#include "event/priorities.hpp"
#include "fakes/daemon_launch.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>

namespace thaw::bench {

namespace {

constexpr Microseconds kRestart = 10 * kUsecPerMsec; // RestartSec= of thaw-pagerd.service
// A second loss in this time would be taken for a worker that dies at once, and waited for.
constexpr const char* kConfig = "StartLimitIntervalSec=1ms\nWorkerRestartIntervalSec=1ms\n";

std::string unit_of(const std::string& name) {
    return "thaw-firecracker@" + name + ".service";
}

} // namespace

BrokerRig::BrokerRig(const std::string& more) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1); // workers that a dead broker leaves
    register_bus_errors(pager1::kErrors);
    loop_ = must(EventLoop::create(), "make an event loop");
    heartbeat_ = must(
        loop_->add_timer(
            kUsecPerMsec, [this] { static_cast<void>(heartbeat_.rearm(kUsecPerMsec)); },
            "heartbeat", 0
        ),
        "make a timer"
    );
    bus_daemon_ = must(fakes::PrivateBus::start(), "start a bus");
    bus_ = must(bus_daemon_->connect(*loop_), "connect to the bus");
    systemd_ = must(
        fakes::FakeSystemd::create(*loop_, must(bus_daemon_->connect(*loop_), "connect")),
        "stand in for PID 1"
    );
    until([this] { return systemd_->owns_name(); }, "the name of PID 1");
    systemd_->add_unit("thaw-pager-workers.service");
    runtime_ = bus_daemon_->directory() + "/pager";
    must(make_directories(runtime_ + "/vm"), "make a folder");
    keeper_ = must(
        fakes::StoreKeeper::start(*loop_, bus_daemon_->directory() + "/notify"), "keep descriptors"
    );
    control_ = must(listen_unix(runtime_ + "/control", SOCK_SEQPACKET, 64), "listen");
    const std::string config = fmt::format(
        "[Pager]\nRuntimeDirectory={}\nWorkerProgram={}\n{}{}", runtime_, THAW_WORKER_PATH, kConfig,
        more
    );
    must(write_file_atomic(bus_daemon_->directory() + "/pagerd.conf", config), "configure");
    log_ = must(open_file("/dev/null", O_WRONLY), "open /dev/null");
    spawn();
}

BrokerRig::~BrokerRig() {
    restart_ = {};
    ::kill(daemon_, SIGKILL);
    ::waitpid(daemon_, nullptr, 0);
    static_cast<void>(remove_tree(runtime_));
}

void BrokerRig::spawn() {
    keeper_->ready = false;
    fakes::DaemonLaunch launch{
        .program = THAW_PAGERD_PATH,
        .descriptors = {{"control", control_.get()}},
        .environment =
            {{"DBUS_SYSTEM_BUS_ADDRESS", bus_daemon_->address()},
             {"NOTIFY_SOCKET", keeper_->path()},
             {"THAW_PAGERD_CONFIG", bus_daemon_->directory() + "/pagerd.conf"}},
        .log = log_.get(),
    };
    for (const auto& [name, fd] : keeper_->stored())
        launch.descriptors.emplace_back(name, fd.get());
    daemon_ = fakes::launch_daemon(launch);
    if (daemon_ < 0) give_up("start the broker");
}

void BrokerRig::until(const std::function<bool()>& condition, const char* what) {
    if (!fakes::run_until(*loop_, condition, 30 * kUsecPerSec))
        give_up(fmt::format("{} did not happen", what));
}

BusMessage BrokerRig::call(BusMessage message, const char* what) {
    std::optional<Result<BusMessage>> answer;
    const auto slot = bus_->call(std::move(message), [&](Result<BusMessage> reply) {
        answer.emplace(std::move(reply));
    });
    until([&] { return answer.has_value(); }, what);
    return must(std::move(*answer), what);
}

std::string BrokerRig::socket_of(const std::string& name) const {
    return fmt::format("{}/vm/{}/uffd.sock", runtime_, name);
}

void BrokerRig::create(const std::string& name, const Image& image, int memory) {
    until([this] { return keeper_->ready; }, "the broker's start");
    auto message = must(
        bus_->new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "CreateSession"),
        "make a call"
    );
    const std::string id = hex_encode(image.id.data(), image.id.size());
    const std::string unit = unit_of(name);
    // Other bytes are another image's, and without a map nobody says what they must be.
    const auto filled = memory < 0
                            ? message.append(
                                  "ssa{sh}a{sv}t", name.c_str(), unit.c_str(), 2, "memory",
                                  image.memory(), "map", image.map(), 2, "ImageId", "s", id.c_str(),
                                  "MemorySize", "t", image.size(), std::uint64_t{0}
                              )
                            : message.append(
                                  "ssa{sh}a{sv}t", name.c_str(), unit.c_str(), 1, "memory", memory,
                                  1, "MemorySize", "t", image.size(), std::uint64_t{0}
                              );
    must(filled, "fill a call");
    call(std::move(message), "CreateSession");
}

void BrokerRig::create_remote(
    const std::string& name, const Image& image, const std::string& url,
    const protocol::SourceIdentity& identity
) {
    until([this] { return keeper_->ready; }, "the broker's start");
    auto message = must(
        bus_->new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "CreateSession"),
        "make a call"
    );
    const std::string id = hex_encode(image.id.data(), image.id.size());
    const auto filled = message.append(
        "ssa{sh}a{sv}t", name.c_str(), unit_of(name).c_str(), 1, "map", image.map(), 5, "ImageId",
        "s", id.c_str(), "MemoryUrl", "s", url.c_str(), "MemoryLength", "t", identity.length,
        "MemoryETag", "s", identity.etag.c_str(), "MemoryModified", "s",
        identity.last_modified.c_str(), std::uint64_t{0}
    );
    must(filled, "fill a call");
    call(std::move(message), "CreateSession");
}

std::uint64_t BrokerRig::cache_number(const char* property) {
    auto message = must(
        bus_->new_call(pager1::kBusName, pager1::kPath, "org.freedesktop.DBus.Properties", "Get"),
        "make a call"
    );
    must(message.append("ss", pager1::kCacheInterface, property), "fill a call");
    auto reply = call(std::move(message), property);
    std::uint64_t value = 0;
    must(reply.read("v", "t", &value), "read a number");
    return value;
}

std::unique_ptr<GuestProcess> BrokerRig::start(const std::string& name, GuestProcess::Setup setup) {
    setup.socket = socket_of(name);
    auto guest = std::make_unique<GuestProcess>(setup);
    systemd_->set_pid_unit(static_cast<std::uint32_t>(guest->pid()), unit_of(name));
    guest->connect();
    until([&] { return guest->is_serving(); }, "the first page");
    return guest;
}

void BrokerRig::end(const std::string& name, std::unique_ptr<GuestProcess> guest) {
    guest.reset();
    auto message = must(
        bus_->new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "CloseSession"),
        "make a call"
    );
    must(message.append("st", name.c_str(), std::uint64_t{0}), "fill a call");
    bool done = false; // it may be gone already, which is as good
    const auto slot = bus_->call(std::move(message), [&](const auto&) { done = true; });
    until([&] { return done; }, "CloseSession");
}

pid_t BrokerRig::worker(const std::string& name) {
    auto message = must(
        bus_->new_call(
            pager1::kBusName, encode_object_path(pager1::kSessionPrefix, name),
            "org.freedesktop.DBus.Properties", "Get"
        ),
        "make a call"
    );
    must(message.append("ss", pager1::kSessionInterface, "WorkerPID"), "fill a call");
    auto reply = call(std::move(message), "WorkerPID");
    std::uint32_t pid = 0;
    must(reply.read("v", "u", &pid), "read WorkerPID");
    return static_cast<pid_t>(pid);
}

void BrokerRig::kill(bool broker, pid_t worker) {
    if (broker) ::kill(daemon_, SIGKILL);
    if (worker > 0) ::kill(worker, SIGKILL);
    if (!broker) return;
    ::waitpid(daemon_, nullptr, 0);
    restart_ = must(
        loop_->add_timer(
            kRestart, [this] { spawn(); }, "restart", priority::kTimer
        ),
        "make a timer"
    );
}

} // namespace thaw::bench
