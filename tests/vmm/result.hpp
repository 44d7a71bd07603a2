// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

/// Small helpers of the stand-in VMM. The stand-in is an oracle for the other programs, so it
/// shares no code with them and has its own result and descriptor types.
namespace thaw::standin {

template <typename T>
using Result = std::expected<T, std::string>;

inline std::unexpected<std::string> fail(std::string text) {
    return std::unexpected<std::string>(std::move(text));
}

/// Text of an errno value in the form Firecracker's errors have: "Text (os error N)".
std::string os_error(int number);

/// Owns one file descriptor; -1 is empty.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        reset(std::exchange(other.fd_, -1));
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset(int fd = -1) {
        if (fd_ >= 0) {
            ::close(fd_);
        }
        fd_ = fd;
    }

private:
    int fd_ = -1;
};

/// Monotonic time in nanoseconds.
std::uint64_t now_ns();

/// Whole file as text.
Result<std::string> read_file(const std::string& path);

} // namespace thaw::standin
