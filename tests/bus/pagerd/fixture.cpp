// SPDX-License-Identifier: MIT
#include "fixture.hpp"

#include "api/pager1.hpp"
#include "core/file.hpp"
#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "fakes/daemon_launch.hpp"
#include "test_programs.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

namespace thaw::pagerd {

namespace {

constexpr Microseconds kHeartbeat = 5 * kUsecPerMsec;

Fd make_image(std::uint64_t size) {
    Fd fd(::memfd_create("image", MFD_CLOEXEC));
    std::array<std::uint8_t, 4096> page{};
    for (std::uint64_t i = 0; i < size / page.size(); ++i) {
        fill_page(i, page.data());
        EXPECT_TRUE(write_all(fd.get(), std::as_bytes(std::span(page))));
    }
    return fd;
}

} // namespace

void PagerdTest::SetUp() {
    if (::geteuid() != 0) GTEST_SKIP() << "needs uid 0: sessions are made by root only";
    register_bus_errors(pager1::kErrors);
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
    auto heartbeat = loop_->add_timer(
        kHeartbeat,
        [this] {
            tick_ = true;
            static_cast<void>(heartbeat_.rearm(kHeartbeat));
        },
        "heartbeat", 0
    );
    ASSERT_TRUE(heartbeat);
    heartbeat_ = std::move(*heartbeat);
    auto bus_daemon = fakes::PrivateBus::start();
    ASSERT_TRUE(bus_daemon) << bus_daemon.error().message();
    bus_daemon_ = std::move(*bus_daemon);
    auto bus = bus_daemon_->connect(*loop_);
    ASSERT_TRUE(bus);
    bus_ = std::move(*bus);
    start_systemd();
    runtime_ = bus_daemon_->directory() + "/pager";
    ASSERT_TRUE(make_directories(runtime_ + "/vm"));
    auto keeper = fakes::StoreKeeper::start(*loop_, bus_daemon_->directory() + "/notify");
    ASSERT_TRUE(keeper) << keeper.error().message();
    keeper_ = std::move(*keeper);
    auto control = listen_unix(runtime_ + "/control", SOCK_SEQPACKET, 64);
    ASSERT_TRUE(control);
    control_ = std::move(*control);
    image_ = make_image(kMemory);
    write_config("");
    auto removed = bus_->match_signal(
        pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "SessionRemoved",
        [this](BusMessage& message) {
            const char *name = nullptr, *path = nullptr, *result = nullptr;
            if (message.read("sos", &name, &path, &result))
                removed_.push_back(fmt::format("{}:{}", name, result));
        }
    );
    ASSERT_TRUE(removed);
    removed_match_ = std::move(*removed);
    auto added = bus_->match_signal(
        pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "SessionNew",
        [this](BusMessage& message) {
            const char* name = nullptr;
            if (message.read("s", &name)) added_.emplace_back(name);
        }
    );
    ASSERT_TRUE(added);
    added_match_ = std::move(*added);
}

void PagerdTest::start_systemd() {
    auto systemd_bus = bus_daemon_->connect(*loop_);
    ASSERT_TRUE(systemd_bus);
    auto systemd = fakes::FakeSystemd::create(*loop_, std::move(*systemd_bus));
    ASSERT_TRUE(systemd);
    systemd_ = std::move(*systemd);
    ASSERT_TRUE(until([&] { return systemd_->owns_name(); }));
    systemd_->add_unit("thaw-pager-workers.service");
}

void PagerdTest::TearDown() {
    kill_daemon();
    for (const auto pid : workers_)
        if (::waitpid(pid, nullptr, WNOHANG) <= 0) ::kill(pid, SIGKILL);
    if (runtime_.empty()) return;
    EXPECT_TRUE(remove_tree(runtime_));
}

void PagerdTest::write_config(const std::string& lines) {
    const auto content = fmt::format(
        "[Pager]\nRuntimeDirectory={}\nWorkerProgram={}\nStartLimitBurst=50\n{}\n", runtime_,
        kWorkerProgram, lines
    );
    ASSERT_TRUE(write_file_atomic(bus_daemon_->directory() + "/pagerd.conf", content));
}

void PagerdTest::spawn_daemon() {
    fakes::DaemonLaunch launch{
        .program = kDaemonProgram,
        .descriptors = {{"control", control_.get()}},
        .environment =
            {{"DBUS_SYSTEM_BUS_ADDRESS", bus_daemon_->address()},
             {"NOTIFY_SOCKET", keeper_->path()},
             {"THAW_PAGERD_CONFIG", bus_daemon_->directory() + "/pagerd.conf"}}
    };
    if (pass_stored_)
        for (const auto& [name, fd] : keeper_->stored())
            launch.descriptors.emplace_back(name, fd.get());
    // Children that the broker leaves are ours to reap.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    daemon_ = fakes::launch_daemon(launch);
    ASSERT_GT(daemon_, 0);
}

void PagerdTest::start_daemon() {
    keeper_->ready = false;
    spawn_daemon();
    ASSERT_TRUE(until([&] { return keeper_->ready; })) << "the daemon did not get ready";
}

void PagerdTest::kill_daemon(int signal) {
    if (daemon_ <= 0) return;
    ::kill(daemon_, signal);
    while (::waitpid(daemon_, nullptr, 0) < 0 && errno == EINTR)
        continue;
    daemon_ = -1;
}

std::size_t PagerdTest::daemon_fds() const {
    const auto path = fmt::format("/proc/{}/fd", daemon_);
    // A notification's own socket is open for a moment after it was heard.
    ::usleep(2000);
    std::size_t count = 0;
    DIR* directory = ::opendir(path.c_str());
    while (directory && ::readdir(directory))
        ++count;
    if (directory) ::closedir(directory);
    return count;
}

Reply PagerdTest::call(BusMessage message) {
    Reply result;
    bool done = false;
    auto slot = bus_->call(std::move(message), [&](Result<BusMessage> reply) {
        done = true;
        if (reply)
            result.message = *reply;
        else
            result.error = bus_name_of(reply.error());
    });
    if (!until([&] { return done; })) result.error = "no answer";
    return result;
}

BusMessage PagerdTest::new_call(const std::string& member) const {
    return *bus_->new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, member);
}

BusMessage PagerdTest::create_call(const std::string& name, const std::string& unit) const {
    auto message = new_call("CreateSession");
    EXPECT_TRUE(message.append(
        "ssa{sh}a{sv}", name.c_str(), unit.c_str(), 1, "memory", image_.get(), 3, "ImageId", "s",
        "00112233445566778899aabbccddeeff", "ImageName", "s", "sample", "MemorySize", "t",
        std::uint64_t{kMemory}
    ));
    return message;
}

std::string PagerdTest::create(const std::string& name) {
    auto message = create_call(name, unit_of(name));
    EXPECT_TRUE(message.append("t", std::uint64_t{0}));
    return call(std::move(message)).error;
}

std::string PagerdTest::close(const std::string& name) {
    auto message = new_call("CloseSession");
    EXPECT_TRUE(message.append("st", name.c_str(), std::uint64_t{0}));
    return call(std::move(message)).error;
}

std::string PagerdTest::path_of(const std::string& name) {
    return encode_object_path(pager1::kSessionPrefix, name);
}

std::string PagerdTest::socket_of(const std::string& name) const {
    return fmt::format("{}/vm/{}/uffd.sock", runtime_, name);
}

std::string PagerdTest::text(const std::string& name, const char* property) {
    auto message =
        *bus_->new_call(pager1::kBusName, path_of(name), "org.freedesktop.DBus.Properties", "Get");
    EXPECT_TRUE(message.append("ss", pager1::kSessionInterface, property));
    auto reply = call(std::move(message));
    const char* value = "";
    if (!reply.error.empty()) return {};
    EXPECT_TRUE(reply.message.read("v", "s", &value));
    return value;
}

std::uint64_t PagerdTest::number(const std::string& name, const char* property, char type) {
    auto message =
        *bus_->new_call(pager1::kBusName, path_of(name), "org.freedesktop.DBus.Properties", "Get");
    EXPECT_TRUE(message.append("ss", pager1::kSessionInterface, property));
    auto reply = call(std::move(message));
    std::uint64_t value = 0;
    const std::string types(1, type);
    if (!reply.error.empty()) return 0;
    EXPECT_TRUE(reply.message.read("v", types.c_str(), &value));
    return value;
}

bool PagerdTest::flag(const std::string& name, const char* property) {
    return static_cast<int>(number(name, property, 'b')) != 0;
}

std::size_t PagerdTest::sessions() {
    auto reply = call(new_call("ListSessions"));
    if (!reply.error.empty()) return SIZE_MAX;
    std::size_t count = 0;
    EXPECT_TRUE(reply.message.enter_container('a', "(ssssto)"));
    while (*reply.message.enter_container('r', "ssssto")) {
        EXPECT_TRUE(reply.message.skip("ssssto"));
        EXPECT_TRUE(reply.message.exit_container());
        ++count;
    }
    return count;
}

bool PagerdTest::wait_state(const std::string& name, const std::string& state) {
    const auto deadline = now_monotonic() + 10 * kUsecPerSec;
    while (text(name, "State") != state) {
        if (now_monotonic() > deadline) {
            ADD_FAILURE() << name << " is " << text(name, "State") << ", not " << state << "; "
                          << text(name, "ErrorName") << " " << text(name, "ErrorMessage");
            return false;
        }
        fakes::run_for(*loop_, 2 * kUsecPerMsec);
    }
    if (const auto pid = number(name, "WorkerPID"); pid != 0)
        remember_worker(static_cast<pid_t>(pid));
    return true;
}

VmmBehaviour PagerdTest::behaviour(const std::string& name) const {
    VmmBehaviour how;
    how.socket = socket_of(name);
    how.memory_size = kMemory;
    how.page_size_member = "page_size";
    return how;
}

VmmProcess PagerdTest::make_vmm(const std::string& name, VmmBehaviour how) {
    VmmProcess vmm(std::move(how));
    systemd_->set_pid_unit(static_cast<std::uint32_t>(vmm.pid()), unit_of(name));
    return vmm;
}

bool PagerdTest::answer(VmmProcess& vmm, Microseconds limit) {
    const bool came = until(
        [&] {
            pollfd entry{.fd = vmm.answer_fd(), .events = POLLIN, .revents = 0};
            return ::poll(&entry, 1, 0) == 1;
        },
        limit
    );
    char byte = 0;
    return came && ::read(vmm.answer_fd(), &byte, 1) == 1 && byte == 1;
}

bool PagerdTest::check_pages(VmmProcess& vmm, std::uint64_t first, std::uint64_t count) {
    vmm.check_pages(first, count);
    return answer(vmm);
}

VmmProcess PagerdTest::serve(const std::string& name) {
    EXPECT_EQ(create(name), "");
    auto vmm = make_vmm(name);
    vmm.connect();
    EXPECT_TRUE(answer(vmm));
    EXPECT_TRUE(wait_state(name, "serving"));
    return vmm;
}

} // namespace thaw::pagerd
