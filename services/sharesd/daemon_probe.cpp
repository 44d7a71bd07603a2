// SPDX-License-Identifier: MIT
#include "daemon_probe.hpp"

#include "api/shares1.hpp"
#include "core/pidfd.hpp"
#include "event/priorities.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <utility>

namespace thaw::sharesd {

namespace {

constexpr Microseconds kTimeout = 5 * kUsecPerSec;
constexpr std::size_t kMostOutput = 64 << 10;

Error unavailable(const std::string& program, std::string_view why) {
    return {shares1::error::kDaemonUnavailable, ENOEXEC, fmt::format("{}: {}", program, why)};
}

struct Spawned {
    pid_t pid = -1;
    Fd output;
};

Result<Spawned> spawn(const std::string& program) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return fail_errno(errno, "make a pipe");
    Fd reading(ends[0]);
    const Fd writing(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    std::string name = program;
    std::string option = "--print-capabilities";
    std::array<char*, 3> arguments{name.data(), option.data(), nullptr};
    std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    std::array<char*, 2> environment{path.data(), nullptr};
    pid_t pid = -1;
    const int code = posix_spawn(
        &pid, program.c_str(), &actions, &attributes, arguments.data(), environment.data()
    );
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (code != 0) return fail_errno(code, "run it");
    return Spawned{pid, std::move(reading)};
}

} // namespace

// A program at work; dropping it kills and reaps it.
struct DaemonProbe::Run {
    explicit Run(std::string program_to_run) : program(std::move(program_to_run)) {}
    ~Run() {
        readable.reset();
        deadline.reset();
        if (pid <= 0) return;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

    std::string program;
    FileIdentity identity;
    pid_t pid = -1;
    Fd output;
    std::string text;
    EventSource readable;
    EventSource deadline;
};

DaemonProbe::DaemonProbe(EventLoop& loop, std::vector<std::string> programs)
    : loop_(loop), programs_(std::move(programs)) {}

DaemonProbe::~DaemonProbe() = default;

void DaemonProbe::ask(Handler handler) {
    waiting_.push_back(std::move(handler));
    if (run_ || answer_) return;
    for (const auto& program : programs_) {
        const auto file = open_file(program, O_PATH);
        if (!file) continue;
        const auto identity = identify(file->get());
        if (identity && known_ && known_->program == program && known_identity_ == *identity) {
            answer_ = *known_;
            return answer_later();
        }
        run_ = std::make_unique<Run>(program);
        if (identity) run_->identity = *identity;
        if (auto launched = launch(program); !launched) {
            answer_ = std::unexpected(unavailable(program, launched.error().message()));
            run_.reset();
            answer_later();
        }
        return;
    }
    answer_ = fail_named(
        shares1::error::kDaemonUnavailable, ENOENT,
        "no virtiofsd is installed (looked for {}; VirtiofsdPath= names another)",
        fmt::join(programs_, ", ")
    );
    answer_later();
}

void DaemonProbe::answer_later() {
    auto later = loop_.add_defer(
        [this] { finish(std::move(*std::exchange(answer_, std::nullopt))); }, "daemon-known",
        priority::kTimer
    );
    THAW_INVARIANT(later.has_value());
    later_ = std::move(*later);
}

Result<> DaemonProbe::launch(const std::string& program) {
    THAW_TRY(auto spawned, spawn(program));
    run_->pid = spawned.pid;
    run_->output = std::move(spawned.output);
    THAW_TRY(
        run_->readable, loop_.add_io(
                            run_->output.get(), EPOLLIN, [this](std::uint32_t) { on_output(); },
                            "daemon-probe", priority::kChild
                        )
    );
    THAW_TRY(
        run_->deadline,
        loop_.add_timer(
            kTimeout,
            [this] { finish(std::unexpected(unavailable(run_->program, "no answer in time"))); },
            "daemon-probe", priority::kTimer
        )
    );
    return {};
}

void DaemonProbe::on_output() {
    std::array<char, 4096> buffer;
    while (true) {
        const auto got = ::read(run_->output.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) break;
        run_->text.append(buffer.data(), static_cast<std::size_t>(got));
        if (run_->text.size() > kMostOutput) break;
    }
    const auto dialect = parse_capabilities(run_->text);
    if (!dialect)
        return finish(std::unexpected(unavailable(
            run_->program,
            fmt::format(
                "its --print-capabilities is none of a virtiofsd: {}", dialect.error().message()
            )
        )));
    known_ = FoundDaemon{run_->program, *dialect};
    known_identity_ = run_->identity;
    finish(*known_);
}

void DaemonProbe::finish(Result<FoundDaemon> result) {
    run_.reset();
    const auto handlers = std::exchange(waiting_, {});
    for (const auto& handler : handlers)
        handler(result);
}

} // namespace thaw::sharesd
