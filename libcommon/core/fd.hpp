// SPDX-License-Identifier: MIT
#pragma once

// Ownership of one file descriptor. Move-only; closes on destruction.

#include "core/error.hpp"

#include <utility>

namespace thaw {

class Fd {
public:
    Fd() noexcept = default;
    explicit Fd(int fd) noexcept : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    // Gives the descriptor away; the caller closes it.
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    // Closes what is held (errno is preserved) and takes `fd`.
    void reset(int fd = -1) noexcept;

    // A second descriptor of the same open file, close-on-exec.
    Result<Fd> duplicate() const;

private:
    int fd_ = -1;
};

// Sets or clears FD_CLOEXEC / O_NONBLOCK.
Result<> set_cloexec(int fd, bool on);
Result<> set_nonblocking(int fd, bool on);

} // namespace thaw
