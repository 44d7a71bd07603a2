// SPDX-License-Identifier: MIT
#pragma once

// System calls of the code under test that fail, or kill the process, when their turn comes. The
// linker leads the calls of the library here (--wrap): the code under test is what ships.
// One thread only.

#include <cstdint>
#include <string_view>

namespace thaw::test {

enum class Call : unsigned {
    Open,
    Fallocate,
    Fsync,
    Syncfs,
    Unlink,
    Statvfs,
    Truncate,
    Rename,
    Write,
    Mkdir,
    Stat,
    Mode, // fchmod, fchown
    Ioctl,
    Flock,
    List, // readdir
};
inline constexpr unsigned kCalls = 15;
std::string_view call_name(Call call);
constexpr std::uint32_t bit(Call call) {
    return 1u << static_cast<unsigned>(call);
}
inline constexpr std::uint32_t kEveryCall = (1u << kCalls) - 1;

struct Injection {
    std::uint32_t calls = 0;                               // which, as bits
    unsigned nth = 1;                                      // counted among those
    int error = 0;                                         // it fails with this
    bool from_then_on = false;                             // and all later ones too
    enum class Kill { No, Before, After } kill = Kill::No; // instead: SIGKILL to this process
};

// Injects while it lives.
class Injecting {
public:
    explicit Injecting(const Injection& injection);
    Injecting(const Injecting&) = delete;
    Injecting& operator=(const Injecting&) = delete;
    ~Injecting();
    // Whether the turn came; false: there are fewer such calls.
    bool hit() const;
};

} // namespace thaw::test
