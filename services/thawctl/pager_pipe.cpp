// SPDX-License-Identifier: MIT

#include "pager_pipe.hpp"

#include "core/file.hpp"
#include "core/text.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <tuple>
#include <vector>

namespace thaw::ctl {

namespace {

constexpr int kPagerNotRun = 127;
// Quit on one screen, colours through, chop long lines, no screen clearing, verbose prompt.
constexpr const char* kLess = "FRSXMK";

std::vector<std::string> pager_command() {
    for (const char* variable : {"SYSTEMD_PAGER", "PAGER"})
        if (const char* value = std::getenv(variable)) return split_words(value);
    return {"less"};
}

// Whether `program` can be found; the answer is needed before the text is given away.
bool is_installed(const std::string& program) {
    if (program.find('/') != std::string::npos) return access(program.c_str(), X_OK) == 0;
    const char* path = std::getenv("PATH");
    std::string_view rest = path != nullptr ? path : "/usr/bin:/bin";
    while (!rest.empty()) {
        const auto colon = std::min(rest.find(':'), rest.size());
        const auto file = fmt::format("{}/{}", rest.substr(0, colon), program);
        if (access(file.c_str(), X_OK) == 0) return true;
        rest.remove_prefix(std::min(colon + 1, rest.size()));
    }
    return false;
}

[[noreturn]] void run_pager(const std::vector<std::string>& command, int input) {
    dup2(input, STDIN_FILENO);
    setenv("LESS", kLess, 0);
    setenv("LESSCHARSET", "utf-8", 0);
    // Under sudo the pager must not become a shell.
    if (std::getenv("SUDO_UID") != nullptr) setenv("LESSSECURE", "1", 1);
    std::vector<char*> argv;
    argv.reserve(command.size() + 1);
    for (const auto& word : command)
        argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(kPagerNotRun);
}

} // namespace

bool page_text(const std::string& text) {
    const auto command = pager_command();
    if (command.empty() || command[0] == "cat" || !is_installed(command[0])) return false;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return false;
    Fd output(ends[0]);
    Fd input(ends[1]);
    const pid_t child = fork();
    if (child < 0) return false;
    if (child == 0) run_pager(command, output.get());
    output.reset();
    // Leaving the pager early is no error, and Ctrl-C is for the pager alone.
    (void)signal(SIGPIPE, SIG_IGN);
    const auto old = signal(SIGINT, SIG_IGN);
    std::ignore = write_all(input.get(), text);
    input.reset();
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    (void)signal(SIGINT, old);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == kPagerNotRun);
}

} // namespace thaw::ctl
