// SPDX-License-Identifier: MIT
#include "harness.hpp"

#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "harness_steps.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>

namespace thaw::test {

using std::chrono::milliseconds;

namespace {

Fd must_dup(int fd) {
    return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

} // namespace

bool eventually(const std::function<bool()>& condition, milliseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
}

// ---- worker ----------------------------------------------------------------------------------

WorkerProcess::WorkerProcess(pid_t pid, Fd pidfd, Fd channel)
    : pid_(pid), pidfd_(std::move(pidfd)), channel_(std::move(channel)) {}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)),
      channel_(std::move(other.channel_)), status_(other.status_) {}

WorkerProcess& WorkerProcess::operator=(WorkerProcess&& other) noexcept {
    if (this == &other) return *this;
    if (pid_ > 0) kill();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
    channel_ = std::move(other.channel_);
    status_ = other.status_;
    return *this;
}

WorkerProcess::~WorkerProcess() {
    if (pid_ > 0) kill();
}

void WorkerProcess::signal(int number) const {
    static_cast<void>(pidfd_send_signal(pidfd_.get(), number));
}

void WorkerProcess::kill() {
    if (!status_) {
        signal(SIGKILL);
        wait();
    }
    pid_ = -1;
}

std::optional<int> WorkerProcess::wait(milliseconds limit) {
    if (status_) return status_;
    pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, static_cast<int>(limit.count())) != 1) return std::nullopt;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return status_;
}

Result<protocol::ControlMessage> WorkerProcess::receive(milliseconds limit) const {
    pollfd readable{.fd = channel_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, static_cast<int>(limit.count())) != 1)
        return fail(ETIMEDOUT, "no message");
    return protocol::receive_control(channel_.get());
}

Result<protocol::ControlMessage>
WorkerProcess::receive(protocol::ControlType type, milliseconds limit) const {
    const auto end = std::chrono::steady_clock::now() + limit;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
        auto message = receive(std::max(left, milliseconds(0)));
        if (!message || message->type == type) return message;
    }
}

// ---- broker ----------------------------------------------------------------------------------

namespace {

protocol::SessionMemory
make_session(const TestImage& image, const Guest& guest, const BrokerOptions& options) {
    protocol::SessionInfo info;
    info.session_id = {9, 8, 7};
    info.image_id = image.id();
    info.name = "test-vm";
    info.unit = "thaw-firecracker@test.service";
    info.image_name = "test-image";
    info.memory_size = image.size();
    info.page_size = guest.regions().front().page_size;
    info.policy = options.policy;
    info.flags = options.flags;
    auto memory = must(protocol::SessionMemory::create(info));
    must_be(static_cast<bool>(memory.set_regions(guest.regions())), "set the regions");
    return memory;
}

pid_t spawn_worker(int channel, const BrokerOptions& options) {
    const std::string engine = "--engine=" + options.engine;
    const std::string control = "--control=" + options.control_path;
    const char* program = THAW_WORKER_PATH;
    const std::string pressure = "--pressure=" + options.pressure_directory;
    const char* argv[] = {program,         "--session",      engine.c_str(),
                          control.c_str(), pressure.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, channel, 3);
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, program, &actions, nullptr, const_cast<char* const*>(argv), environ);
    posix_spawn_file_actions_destroy(&actions);
    errno = error;
    must_be(error == 0, "spawn the worker");
    return pid;
}

} // namespace

Broker::Broker(const TestImage& image, const Guest& guest, BrokerOptions options)
    : image_(image), guest_(guest), options_(std::move(options)),
      memory_(make_session(image_, guest_, options_)) {
    if (options_.track) memory_.request_tracking(true);
    if (!options_.vmm_pidfd) options_.vmm_pidfd = must(pidfd_open(::getpid()));
}

WorkerProcess Broker::start() {
    auto pair = must(make_seqpacket_pair(false));
    const pid_t pid = spawn_worker(pair.second.get(), options_);
    pair.second.reset();
    WorkerProcess worker(pid, must(pidfd_open(pid)), std::move(pair.first));
    protocol::StartMessage message;
    message.session = must_dup(memory_.fd());
    message.uffd = must_dup(guest_.uffd());
    message.vmm_pidfd = must_dup(options_.vmm_pidfd.get());
    message.memory = must_dup(options_.memory ? options_.memory.get() : image_.memory());
    if (options_.with_map) message.map = must_dup(options_.map ? options_.map.get() : image_.map());
    if (options_.working_set) message.working_set = must_dup(options_.working_set.get());
    if (image_.layers() >= 0)
        message.layers = must_dup(options_.layers ? options_.layers.get() : image_.layers());
    for (std::size_t i = 0; i + options_.drop_bases < image_.bases().size(); ++i)
        message.bases.push_back(must_dup(image_.bases()[i].get()));
    if (options_.chunk_map) message.chunk_map = must_dup(options_.chunk_map.get());
    message.spares = must(protocol::make_spare_sockets());
    must_be(
        static_cast<bool>(protocol::send_control(worker.channel(), protocol::encode(message))),
        "send Start"
    );
    return worker;
}

bool Broker::is_ready(const WorkerProcess& worker) const {
    const auto message = worker.receive();
    if (!message) ADD_FAILURE() << message.error().message();
    return message && message->type == protocol::ControlType::Ready;
}

WorkerProcess Broker::start_ready() {
    WorkerProcess worker = start();
    EXPECT_TRUE(is_ready(worker));
    return worker;
}

void Broker::attend(const WorkerProcess& worker) {
    const auto sent =
        protocol::send_control(worker.channel(), protocol::encode(protocol::ControlType::Attend));
    must_be(static_cast<bool>(sent), "send Attend");
}

HangGuard::HangGuard(unsigned seconds) {
    ::signal(SIGALRM, [](int) {
        constexpr char kText[] = "test hangs: a fault was not answered\n";
        static_cast<void>(!::write(STDERR_FILENO, kText, sizeof kText - 1));
        ::_exit(99);
    });
    ::alarm(seconds);
}

HangGuard::~HangGuard() {
    ::alarm(0);
}

} // namespace thaw::test
