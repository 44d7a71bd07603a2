// SPDX-License-Identifier: MIT
#pragma once

// A command that reaches into a guest: its standard input and output are the guest's program's.

#include "core/fd.hpp"
#include "core/text.hpp"

#include <sys/types.h>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace thaw::ctl {

// The words of a transport as configured, split at blanks: %v is the VM's name, %% a percent sign.
// EINVAL for another % or no words. No shell ever sees them.
Result<std::vector<std::string>>
expand_transport(const std::string& text, const std::string& vm_name);

class Transport {
public:
    // Starts the command with `program` as its last word. ENOENT, EACCES: it cannot be executed.
    // `silence`: how long the other side may take to accept or to say anything.
    // `go_on`: asked about ten times a second; false ends a wait with ECANCELED.
    static Result<Transport> start(
        const std::vector<std::string>& words, std::string_view program, Microseconds silence,
        std::function<bool()> go_on
    );
    Transport(Transport&& other) noexcept;
    Transport(const Transport&) = delete;
    Transport& operator=(Transport&&) = delete;
    Transport& operator=(const Transport&) = delete;
    // Ends a command that still runs.
    ~Transport();

    // EPIPE: the other side takes no more. ETIMEDOUT.
    Result<> write(std::span<const std::byte> data);
    Result<> write(std::string_view text);
    void close_input() { input_.reset(); }
    // The next line that starts with `prefix`, without it; nullopt at the end of the output. Others
    // are dropped. ETIMEDOUT.
    Result<std::optional<std::string>> read_line(std::string_view prefix);
    // Waits for the end: "exit status 255", "signal Terminated". ETIMEDOUT.
    Result<std::string> wait();

private:
    Transport() = default;
    // Waits until `fd` is ready for `events`.
    Result<> await(int fd, short events) const;

    pid_t pid_ = -1;
    Fd input_;
    Fd output_;
    std::string received_;
    Microseconds silence_ = 0;
    std::function<bool()> go_on_;
};

} // namespace thaw::ctl
