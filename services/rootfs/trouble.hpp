// SPDX-License-Identifier: MIT
#pragma once

// What the admin is told of requests that failed: each kind once, and again after it was quiet for
// a minute, as a guest may fail thousands of times a second. Thread-safe.

#include "core/error.hpp"
#include "core/text.hpp"

#include <array>
#include <atomic>
#include <string>

namespace thaw::rootfs {

enum class Request { Read, Write, Flush };

class Trouble {
public:
    explicit Trouble(std::string name) : name_(std::move(name)) {}

    // Logs it, unless that was done lately. The answer is the errno for the guest: one of those
    // that NBD knows.
    int tell(Request request, const Error& error);

private:
    bool is_time(Request request, bool no_space);

    static constexpr Microseconds kQuiet = 60 * kUsecPerSec;
    std::string name_;
    std::array<std::atomic<Microseconds>, 6> told_{};
};

} // namespace thaw::rootfs
