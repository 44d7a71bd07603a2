// SPDX-License-Identifier: MIT
#include "limits.hpp"

#include <algorithm>

namespace thaw::sharesd {

namespace {

// What a daemon has open for itself is known to a few descriptors only.
constexpr std::uint64_t kSlack = 4;

Result<std::uint64_t> parse_limit(std::string_view word) {
    if (word == "unlimited") return kInfinity;
    return parse_unsigned(word);
}

} // namespace

Result<NofileLimits> parse_limits(std::string_view text) {
    constexpr std::string_view kRow = "Max open files";
    const auto row = text.find(kRow);
    if (row == std::string_view::npos) return fail(EBADMSG, "no row \"{}\"", kRow);
    auto line = text.substr(row + kRow.size());
    const auto words = split_words(line.substr(0, line.find('\n')));
    if (words.size() < 2) return fail(EBADMSG, "no numbers in the row \"{}\"", kRow);
    NofileLimits limits;
    THAW_TRY(limits.soft, parse_limit(words[0]));
    THAW_TRY(limits.hard, parse_limit(words[1]));
    return limits;
}

std::uint64_t clamp_limit(std::uint64_t wanted, std::uint64_t nr_open) {
    return std::min(wanted, nr_open);
}

LimitVerdict judge_limit(std::uint64_t wanted, std::uint64_t effective, OnLowLimit on_low) {
    if (effective >= wanted) return LimitVerdict::Enough;
    return on_low == OnLowLimit::Degraded ? LimitVerdict::Degraded : LimitVerdict::TooLow;
}

std::uint64_t guest_budget(std::uint64_t limit, Dialect dialect, std::uint64_t threads) {
    if (limit == kInfinity) return kInfinity;
    const auto kept = kept_back(dialect, threads);
    return limit > kept ? limit - kept : 0;
}

std::uint64_t guest_use(std::uint64_t open, Dialect dialect) {
    const auto own = own_descriptors(dialect);
    return open > own ? open - own : 0;
}

bool is_exhausted(std::uint64_t used, std::uint64_t budget) {
    return used + kSlack >= budget;
}

} // namespace thaw::sharesd
