// SPDX-License-Identifier: MIT
#pragma once

// Numbers as people write and read them. Sizes are bytes, times are microseconds, like systemd's.

#include "core/error.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw {

using Microseconds = std::uint64_t;
inline constexpr Microseconds kUsecPerMsec = 1000;
inline constexpr Microseconds kUsecPerSec = 1000000;
inline constexpr Microseconds kInfinity = UINT64_MAX;

// "64M", "1.5G", "4096", "1KiB": IEC (1024) suffixes K M G T P E, optional B/iB.
Result<std::uint64_t> parse_size(std::string_view text);
// "30s", "10ms", "1min 30s", "500us", "infinity"; a bare number is seconds (systemd.time).
Result<Microseconds> parse_timespan(std::string_view text);
// systemd's words: 1 yes y true t on / 0 no n false f off.
Result<bool> parse_bool(std::string_view text);
Result<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t maximum = UINT64_MAX);

std::string format_size(std::uint64_t bytes);        // "1.0G", "64.0M", "512B"
std::string format_timespan(Microseconds duration);  // "1min 30s", "2.5ms"
std::string format_timestamp(Microseconds realtime); // "2026-03-01 10:00:00 UTC"

std::string_view trim(std::string_view text);
// Splits at blanks; empty parts are dropped.
std::vector<std::string> split_words(std::string_view text);
// UTF-8 as D-Bus wants it: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_valid_utf8(std::string_view text);
std::string hex_encode(const void* data, std::size_t size);
std::optional<std::string> hex_decode(std::string_view text);

Microseconds now_monotonic();
Microseconds now_realtime();

} // namespace thaw
