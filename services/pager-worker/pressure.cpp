// SPDX-License-Identifier: MIT
#include "pressure.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>

namespace thaw::worker {

std::optional<std::uint32_t> parse_pressure(std::string_view text) {
    constexpr std::string_view kBegin = "some avg10=";
    if (!text.starts_with(kBegin)) return std::nullopt;
    const char* const end = text.data() + text.size();
    std::uint32_t whole = 0;
    const auto number = std::from_chars(text.data() + kBegin.size(), end, whole);
    if (number.ec != std::errc() || whole > 100) return std::nullopt;
    // Two digits follow, always.
    if (end - number.ptr < 3 || *number.ptr != '.') return std::nullopt;
    std::uint32_t hundredths = 0;
    const auto rest = std::from_chars(number.ptr + 1, number.ptr + 3, hundredths);
    if (rest.ec != std::errc() || rest.ptr != number.ptr + 3) return std::nullopt;
    return whole * 100 + hundredths;
}

namespace {

Fd open_first(const std::string& first, const std::string& second) {
    Fd fd(::open(first.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd && !second.empty()) fd.reset(::open(second.c_str(), O_RDONLY | O_CLOEXEC));
    return fd;
}

bool exceeds(const Fd& fd, std::uint32_t limit) {
    if (!fd || limit == 0) return false;
    std::array<char, 128> text;
    const ssize_t got = ::pread(fd.get(), text.data(), text.size(), 0);
    if (got <= 0) return false;
    const auto now = parse_pressure({text.data(), static_cast<std::size_t>(got)});
    return now && *now > limit;
}

} // namespace

Pressure::Pressure(const std::string& directory) {
    if (!directory.empty()) {
        memory_ = open_first(directory + "/memory", "");
        io_ = open_first(directory + "/io", "");
        return;
    }
    // ProcSubset=pid hides the first; the root group has the same numbers under a second name.
    memory_ = open_first("/proc/pressure/memory", "/sys/fs/cgroup/memory.pressure");
    io_ = open_first("/proc/pressure/io", "/sys/fs/cgroup/io.pressure");
}

bool Pressure::is_above(std::uint32_t memory_limit, std::uint32_t io_limit) const {
    return exceeds(memory_, memory_limit) || exceeds(io_, io_limit);
}

} // namespace thaw::worker
