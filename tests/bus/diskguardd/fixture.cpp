// SPDX-License-Identifier: MIT
#include "fixture.hpp"

#include "core/file.hpp"
#include "fakes/daemon_launch.hpp"
#include "reserve/volume.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

namespace thaw::diskguard {

namespace {
constexpr Microseconds kHeartbeat = 5 * kUsecPerMsec;
} // namespace

void DiskguardTest::SetUp() {
    register_bus_errors(diskguard1::kErrors);
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
    auto heartbeat = loop_->add_timer(
        kHeartbeat, [this] { static_cast<void>(heartbeat_.rearm(kHeartbeat)); }, "heartbeat", 0
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
    auto keeper = fakes::StoreKeeper::start(*loop_, bus_daemon_->directory() + "/notify");
    ASSERT_TRUE(keeper) << keeper.error().message();
    keeper_ = std::move(*keeper);
    watch_signals();
    mount_volume();
    write_config();
}

void DiskguardTest::TearDown() {
    kill_daemon();
    while (::umount2(kMount, MNT_DETACH) == 0)
        continue;
}

void DiskguardTest::start_systemd() {
    auto systemd_bus = bus_daemon_->connect(*loop_);
    ASSERT_TRUE(systemd_bus);
    auto systemd = fakes::FakeSystemd::create(*loop_, std::move(*systemd_bus));
    ASSERT_TRUE(systemd);
    systemd_ = std::move(*systemd);
    ASSERT_TRUE(until([&] { return systemd_->owns_name(); }));
    for (const char* unit :
         {"thaw-disk-low@run-guarded.target", "thaw-disk-critical@run-guarded.target",
          "thaw-disk-full@run-guarded.target", "thaw-disk-emergency.target"})
        systemd_->add_unit(unit);
}

void DiskguardTest::watch_signals() {
    const auto watch = [this](const char* member, std::function<void(BusMessage&)> handler) {
        auto match = bus_->match_signal(
            diskguard1::kBusName, diskguard1::kPath, diskguard1::kManagerInterface, member,
            std::move(handler)
        );
        ASSERT_TRUE(match);
        matches_.push_back(std::move(*match));
    };
    watch("LevelChanged", [this](BusMessage& message) {
        const char *id = nullptr, *before = nullptr, *after = nullptr;
        if (message.read("sss", &id, &before, &after))
            levels_.push_back(fmt::format("{}>{}", before, after));
    });
    watch("ActionTaken", [this](BusMessage& message) {
        const char *id = nullptr, *action = nullptr, *reason = nullptr;
        if (message.read("sss", &id, &action, &reason) && *reason != '\0')
            actions_.emplace_back(action);
    });
    watch("VolumeNew", [this](BusMessage&) { volumes_.emplace_back("+"); });
    watch("VolumeRemoved", [this](BusMessage&) { volumes_.emplace_back("-"); });
}

// ---- the file system ------------------------------------------------------------------------

void DiskguardTest::mount_volume(std::uint64_t bytes) {
    ASSERT_TRUE(make_directories(kMount));
    const auto options = fmt::format("size={},nr_inodes=10000,mode=0755", bytes);
    ASSERT_EQ(::mount("guarded", kMount, "tmpfs", 0, options.c_str()), 0) << errno_text(errno);
}

bool DiskguardTest::unmount_volume() {
    return ::umount2(kMount, 0) == 0;
}

std::uint64_t DiskguardTest::free_bytes() {
    struct statvfs fs{};
    EXPECT_EQ(::statvfs(kMount, &fs), 0);
    return fs.f_bavail * fs.f_frsize;
}

void DiskguardTest::fill_until(std::uint64_t free) {
    const auto fd = open_file(std::string(kMount) + "/filler", O_WRONLY | O_CREAT, 0600);
    ASSERT_TRUE(fd);
    struct stat st{};
    ASSERT_EQ(::fstat(fd->get(), &st), 0);
    const auto now = free_bytes();
    ASSERT_GE(now, free);
    ASSERT_EQ(::posix_fallocate(fd->get(), st.st_size, static_cast<off_t>(now - free)), 0);
}

void DiskguardTest::empty() {
    ASSERT_EQ(::unlink((std::string(kMount) + "/filler").c_str()), 0);
}

unsigned DiskguardTest::chunks_on_disk() {
    unsigned count = 0;
    std::error_code error;
    const auto folder = std::string(kMount) + "/" + reserve::kDirectory;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        // The daemon works on the folder meanwhile: what is gone by now is no chunk.
        struct stat st{};
        if (::lstat(entry.path().c_str(), &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
            st.st_size >= static_cast<off_t>(8 * kMiB))
            ++count;
    }
    return count;
}

// ---- the daemon -----------------------------------------------------------------------------

void DiskguardTest::write_config(const std::string& lines, const std::string& guard) {
    const auto content = fmt::format(
        "[Guard]\nPaths={}\nReserveSize=16M\nRearmSettleSec=0\nPollFastestSec=20ms\n"
        "PollIdleSec=50ms\nPollSlowestSec=100ms\n{}\n"
        "[Levels]\nLowPercent=50%\nCriticalPercent=25%\nFullPercent=5%\nSettleSec=50ms\n"
        "[Policy]\n{}\n",
        kMount, guard, lines
    );
    ASSERT_TRUE(write_file_atomic(bus_daemon_->directory() + "/diskguardd.conf", content));
}

void DiskguardTest::start_daemon() {
    keeper_->ready = false;
    fakes::DaemonLaunch launch{
        .program = DISKGUARDD,
        .environment =
            {{"DBUS_SYSTEM_BUS_ADDRESS", bus_daemon_->address()},
             {"NOTIFY_SOCKET", keeper_->path()},
             {"THAW_DISKGUARDD_CONFIG", bus_daemon_->directory() + "/diskguardd.conf"}}
    };
    if (pass_stored_)
        for (const auto& [name, fd] : keeper_->stored())
            launch.descriptors.emplace_back(name, fd.get());
    daemon_ = fakes::launch_daemon(launch);
    ASSERT_GT(daemon_, 0);
    ASSERT_TRUE(until([&] { return keeper_->ready; })) << "the daemon did not get ready";
    auto message = new_call("GetVolume");
    ASSERT_TRUE(message.append("s", kMount));
    auto reply = call(std::move(message));
    const char* path = nullptr;
    ASSERT_EQ(reply.error, "") << reply.text;
    ASSERT_TRUE(reply.message.read("o", &path));
    id_ = path;
}

void DiskguardTest::kill_daemon(int signal) {
    if (daemon_ <= 0) return;
    ::kill(daemon_, signal);
    while (::waitpid(daemon_, nullptr, 0) < 0 && errno == EINTR)
        continue;
    daemon_ = -1;
}

// ---- the bus --------------------------------------------------------------------------------

Reply DiskguardTest::call(BusMessage message) {
    Reply result;
    bool done = false;
    auto slot = bus_->call(std::move(message), [&](Result<BusMessage> reply) {
        done = true;
        if (reply) {
            result.message = *reply;
        } else {
            result.error = bus_name_of(reply.error());
            result.text = reply.error().message();
        }
    });
    if (!until([&] { return done; })) result.error = "no answer";
    return result;
}

BusMessage DiskguardTest::new_call(const std::string& member) const {
    return *bus_->new_call(
        diskguard1::kBusName, diskguard1::kPath, diskguard1::kManagerInterface, member
    );
}

std::string DiskguardTest::object() const {
    return id_;
}

Reply DiskguardTest::get(const char* property) {
    auto message =
        *bus_->new_call(diskguard1::kBusName, id_, "org.freedesktop.DBus.Properties", "Get");
    EXPECT_TRUE(message.append("ss", diskguard1::kVolumeInterface, property));
    return call(std::move(message));
}

std::string DiskguardTest::text(const char* property) {
    auto reply = get(property);
    const char* value = "";
    if (!reply.error.empty()) return reply.error;
    EXPECT_TRUE(reply.message.read("v", "s", &value));
    return value;
}

std::uint64_t DiskguardTest::number(const char* property) {
    auto reply = get(property);
    std::uint64_t value = 0;
    EXPECT_EQ(reply.error, "") << property;
    if (!reply.error.empty()) return 0;
    EXPECT_TRUE(reply.message.read("v", "t", &value));
    return value;
}

bool DiskguardTest::wait_text(const char* property, const std::string& value) {
    const auto deadline = now_monotonic() + 15 * kUsecPerSec;
    std::string last;
    while ((last = text(property)) != value) {
        if (now_monotonic() > deadline) {
            ADD_FAILURE() << property << " is " << last << ", not " << value << "; "
                          << text("StateReason");
            return false;
        }
        fakes::run_for(*loop_, 5 * kUsecPerMsec);
    }
    return true;
}

Reply DiskguardTest::release(std::uint64_t bytes) {
    auto message = new_call("Release");
    EXPECT_TRUE(message.append("stt", kMount, bytes, std::uint64_t{0}));
    return call(std::move(message));
}

Fd DiskguardTest::reserve(std::uint64_t bytes, Reply* answer, const char* volume) {
    auto message = new_call("Reserve");
    EXPECT_TRUE(message.append("stsst", volume, bytes, "a test", "to see", std::uint64_t{0}));
    auto reply = call(std::move(message));
    if (answer != nullptr) *answer = reply;
    int fd = -1;
    if (!reply.error.empty()) return {};
    EXPECT_TRUE(reply.message.read("h", &fd));
    return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

std::uint64_t DiskguardTest::can_fit(std::uint64_t bytes, bool* fits) {
    auto message = new_call("CanFit");
    EXPECT_TRUE(message.append("st", kMount, bytes));
    auto reply = call(std::move(message));
    int yes = 0;
    std::uint64_t available = 0;
    EXPECT_EQ(reply.error, "") << reply.text;
    if (!reply.error.empty()) return 0;
    EXPECT_TRUE(reply.message.read("bt", &yes, &available));
    if (fits != nullptr) *fits = yes != 0;
    return available;
}

std::size_t DiskguardTest::leases() {
    auto reply = call(new_call("ListLeases"));
    std::size_t count = 0;
    EXPECT_EQ(reply.error, "");
    EXPECT_TRUE(reply.message.enter_container('a', "(sstssut)"));
    while (*reply.message.enter_container('r', "sstssut")) {
        EXPECT_TRUE(reply.message.skip("sstssut"));
        EXPECT_TRUE(reply.message.exit_container());
        ++count;
    }
    return count;
}

} // namespace thaw::diskguard
