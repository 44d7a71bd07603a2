// SPDX-License-Identifier: MIT

#include "transport.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace thaw::ctl {

namespace {

// How often a wait looks whether the user wants to go on.
constexpr int kSliceMsec = 100;
// A line of ours is short; a chatty login shell may say this much without a newline.
constexpr std::size_t kMaxLine = std::size_t{64} << 10;
// A command that was told to end gets so long, by the end of its input and then by a signal.
constexpr Microseconds kGrace = 2 * kUsecPerSec;

struct Pipe {
    Fd read;
    Fd write;
};

Result<Pipe> make_pipe() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) return fail_errno(errno, "pipe");
    return Pipe{Fd(fds[0]), Fd(fds[1])};
}

Result<pid_t> spawn(const std::vector<std::string>& words, int input, int output) {
    std::vector<char*> arguments;
    arguments.reserve(words.size() + 1);
    for (const auto& word : words)
        arguments.push_back(const_cast<char*>(word.c_str())); // posix_spawn() does not write
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (posix_spawn_file_actions_init(&actions) != 0) return fail(ENOMEM, "posix_spawn");
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return fail(ENOMEM, "posix_spawn");
    }
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    // We ignore SIGPIPE; the command shall not inherit that.
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    pid_t pid = -1;
    const int r =
        posix_spawnp(&pid, words[0].c_str(), &actions, &attributes, arguments.data(), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (r != 0) return fail_errno(r, "{}", words[0]);
    return pid;
}

} // namespace

Result<std::vector<std::string>>
expand_transport(const std::string& text, const std::string& vm_name) {
    auto words = split_words(text);
    if (words.empty()) return fail(EINVAL, "the transport is empty");
    for (auto& word : words) {
        std::string expanded;
        for (std::size_t i = 0; i < word.size(); ++i) {
            if (word[i] != '%') {
                expanded += word[i];
                continue;
            }
            const char kind = i + 1 < word.size() ? word[++i] : '\0';
            if (kind == 'v')
                expanded += vm_name;
            else if (kind == '%')
                expanded += '%';
            else
                return fail(EINVAL, "transport '{}': only %v and %% are known", text);
        }
        word = std::move(expanded);
    }
    return words;
}

Result<Transport> Transport::start(
    const std::vector<std::string>& words, std::string_view program, Microseconds silence,
    std::function<bool()> go_on
) {
    THAW_TRY(auto in, make_pipe());
    THAW_TRY(auto out, make_pipe());
    auto with_program = words;
    with_program.emplace_back(program);
    (void)signal(SIGPIPE, SIG_IGN); // a guest that goes away is an error, not our end
    Transport transport;
    THAW_TRY(transport.pid_, spawn(with_program, in.read.get(), out.write.get()));
    transport.input_ = std::move(in.write);
    transport.output_ = std::move(out.read);
    transport.silence_ = silence;
    transport.go_on_ = std::move(go_on);
    THAW_CHECK(set_nonblocking(transport.input_.get(), true));
    THAW_CHECK(set_nonblocking(transport.output_.get(), true));
    return transport;
}

Transport::Transport(Transport&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), input_(std::move(other.input_)),
      output_(std::move(other.output_)), received_(std::move(other.received_)),
      silence_(other.silence_), go_on_(std::move(other.go_on_)) {}

Transport::~Transport() {
    if (pid_ < 0) return;
    // The end of its input ends the guest's program, which cleans up behind itself first.
    input_.reset();
    const auto begin = now_monotonic();
    while (waitpid(pid_, nullptr, WNOHANG) == 0) {
        const auto waited = now_monotonic() - begin;
        if (waited > kGrace) (void)kill(pid_, waited > 2 * kGrace ? SIGKILL : SIGTERM);
        (void)poll(nullptr, 0, 10);
    }
}

Result<> Transport::await(int fd, short events) const {
    const auto deadline = now_monotonic() + silence_;
    for (;;) {
        pollfd waiting{fd, events, 0};
        const int r = poll(&waiting, 1, kSliceMsec);
        if (r < 0 && errno != EINTR) return fail_errno(errno, "poll");
        if (!go_on_()) return fail(ECANCELED, "interrupted");
        if (r > 0) return {};
        if (now_monotonic() > deadline)
            return fail(ETIMEDOUT, "nothing happened for {}", format_timespan(silence_));
    }
}

Result<> Transport::write(std::span<const std::byte> data) {
    while (!data.empty()) {
        THAW_CHECK(await(input_.get(), POLLOUT));
        const auto n = ::write(input_.get(), data.data(), data.size());
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (n < 0) return fail_errno(errno, "send to the guest");
        data = data.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<> Transport::write(std::string_view text) {
    return write(std::as_bytes(std::span(text)));
}

Result<std::optional<std::string>> Transport::read_line(std::string_view prefix) {
    for (;;) {
        const auto end = received_.find('\n');
        if (end != std::string::npos) {
            auto line = received_.substr(0, end);
            received_.erase(0, end + 1);
            if (line.ends_with('\r')) line.pop_back();
            if (line.starts_with(prefix)) return line.substr(prefix.size());
            continue;
        }
        if (received_.size() > kMaxLine) received_.clear();
        THAW_CHECK(await(output_.get(), POLLIN));
        std::array<char, 4096> buffer{};
        const auto n = ::read(output_.get(), buffer.data(), buffer.size());
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (n < 0) return fail_errno(errno, "read from the guest");
        if (n == 0) return std::nullopt;
        received_.append(buffer.data(), static_cast<std::size_t>(n));
    }
}

Result<std::string> Transport::wait() {
    const auto deadline = now_monotonic() + silence_;
    int status = 0;
    for (;;) {
        const auto r = waitpid(pid_, &status, WNOHANG);
        if (r < 0 && errno != EINTR) return fail_errno(errno, "waitpid");
        if (r > 0) break;
        if (!go_on_()) return fail(ECANCELED, "interrupted");
        if (now_monotonic() > deadline) return fail(ETIMEDOUT, "the transport does not end");
        (void)poll(nullptr, 0, 5);
    }
    pid_ = -1;
    if (WIFEXITED(status)) return fmt::format("exit status {}", WEXITSTATUS(status));
    return fmt::format("signal {}", sigdescr_np(WTERMSIG(status)));
}

} // namespace thaw::ctl
