// SPDX-License-Identifier: MIT
#include "fakes/private_bus.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace thaw::fakes {

namespace {

constexpr const char* kProgram = "/usr/bin/dbus-daemon";
constexpr int kStartLimitMs = 10000;

// The rules of a system bus: nobody may own or call anything unless allowed below.
constexpr const char* kConfig = R"(<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  {}
  {}
</busconfig>
)";

[[noreturn]] void run_daemon_process(const std::string& config, int ready_fd) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // It would tell the test's manager that it is ready, or take the test's sockets.
    unsetenv("NOTIFY_SOCKET");
    unsetenv("LISTEN_PID");
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const int inherited = dup(ready_fd); // without close-on-exec
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0)
        dup2(null, STDERR_FILENO); // it complains that it cannot raise its descriptor limit
    const auto config_option = "--config-file=" + config;
    const auto ready_option = "--print-address=" + std::to_string(inherited);
    execl(
        kProgram, kProgram, config_option.c_str(), ready_option.c_str(), "--nofork", "--nopidfile",
        static_cast<char*>(nullptr)
    );
    _exit(127);
}

} // namespace

Result<std::unique_ptr<PrivateBus>> PrivateBus::start(const Options& options) {
    if (access(kProgram, X_OK) < 0) return fail_errno(errno, "{}", kProgram);
    std::unique_ptr<PrivateBus> bus(new PrivateBus);
    THAW_CHECK(bus->launch(options));
    return bus;
}

Result<> PrivateBus::launch(const Options& options) {
    const char* temporary = secure_getenv("TMPDIR");
    std::string pattern =
        fmt::format("{}/thaw-bus.XXXXXX", temporary != nullptr ? temporary : "/tmp");
    if (mkdtemp(pattern.data()) == nullptr) return fail_errno(errno, "mkdtemp {}", pattern);
    directory_ = pattern;
    // Tests connect as other users too.
    if (chmod(directory_.c_str(), 0755) < 0) return fail_errno(errno, "chmod {}", directory_);
    address_ = fmt::format("unix:path={}/bus", directory_);

    std::string folders;
    for (const auto& folder : options.service_folders)
        folders += fmt::format("<servicedir>{}</servicedir>\n  ", folder);
    for (const auto& folder : options.policy_folders)
        folders += fmt::format("<includedir>{}</includedir>\n  ", folder);
    const auto config = directory_ + "/bus.conf";
    THAW_CHECK(write_file_atomic(
        config, fmt::format(kConfig, directory_ + "/bus", options.policy, folders)
    ));
    return spawn(config);
}

Result<> PrivateBus::spawn(const std::string& config) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return fail_errno(errno, "make pipe");
    const Fd read_end(ends[0]);
    Fd write_end(ends[1]);
    pid_ = fork();
    if (pid_ < 0) return fail_errno(errno, "fork");
    if (pid_ == 0) run_daemon_process(config, write_end.get());
    write_end.reset();
    // It prints its address once it listens; the end of the pipe means that it gave up.
    pollfd wait{.fd = read_end.get(), .events = POLLIN, .revents = 0};
    char byte = 0;
    if (poll(&wait, 1, kStartLimitMs) != 1 || ::read(read_end.get(), &byte, 1) != 1)
        return fail(EIO, "{} did not start with {}", kProgram, config);
    return {};
}

PrivateBus::~PrivateBus() {
    kill();
    // NOLINTNEXTLINE(bugprone-unused-return-value): what is left is in a temporary folder
    if (!directory_.empty()) (void)remove_tree(directory_);
}

void PrivateBus::kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

Result<Bus> PrivateBus::connect() const {
    sd_bus* bus = nullptr;
    int r = sd_bus_new(&bus);
    if (r >= 0) r = sd_bus_set_address(bus, address_.c_str());
    if (r >= 0) r = sd_bus_set_bus_client(bus, 1);
    if (r >= 0) r = sd_bus_start(bus);
    if (r < 0) {
        sd_bus_unref(bus);
        return fail_errno(-r, "connect to {}", address_);
    }
    return Bus::adopt(bus);
}

Result<Bus> PrivateBus::connect(EventLoop& loop) const {
    THAW_TRY(auto bus, connect());
    THAW_CHECK(bus.attach(loop));
    return bus;
}

void PrivateBus::use_as_system_bus() const {
    setenv("DBUS_SYSTEM_BUS_ADDRESS", address_.c_str(), 1);
}

} // namespace thaw::fakes
