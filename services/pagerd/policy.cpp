// SPDX-License-Identifier: MIT
#include "policy.hpp"

#include <algorithm>

namespace thaw::pagerd {

namespace {
// Grows with each loss within the window, so that a worker that dies at once does not spin.
constexpr Microseconds kFirstDelay = 10 * kUsecPerMsec;
constexpr Microseconds kLongestDelay = kUsecPerSec;
} // namespace

StartRecord record_start(
    const std::vector<Microseconds>& earlier, Microseconds now, std::size_t burst,
    Microseconds interval
) {
    StartRecord record;
    for (const auto start : earlier)
        if (start <= now && now - start < interval) record.starts.push_back(start);
    // A file that someone filled up must not grow for ever.
    const auto keep = burst + 1;
    if (record.starts.size() > keep)
        record.starts.erase(
            record.starts.begin(), record.starts.end() - static_cast<std::ptrdiff_t>(keep)
        );
    record.starts.push_back(now);
    record.safe_mode = record.starts.size() > burst;
    return record;
}

std::vector<Microseconds> parse_starts(std::string_view text) {
    std::vector<Microseconds> starts;
    while (!text.empty()) {
        const auto end = text.find('\n');
        const auto line = text.substr(0, end);
        if (auto value = parse_unsigned(trim(line))) starts.push_back(*value);
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + 1);
    }
    return starts;
}

std::string format_starts(const std::vector<Microseconds>& starts) {
    std::string text;
    for (const auto start : starts)
        text += fmt::format("{}\n", start);
    return text;
}

std::optional<Microseconds> RestartBudget::lost(Microseconds now) {
    ++total_;
    std::erase_if(recent_, [&](Microseconds when) { return now - when >= window_; });
    recent_.push_back(now);
    if (recent_.size() > limit_) return std::nullopt;
    if (recent_.size() == 1) return 0;
    auto delay = kFirstDelay;
    for (std::size_t i = 2; i < recent_.size() && delay < kLongestDelay; ++i)
        delay *= 2;
    return std::min(delay, kLongestDelay);
}

bool StuckDetector::observe(Microseconds now, const FaultSigns& signs) {
    const bool beats = signs.heartbeat != heartbeat_;
    if (beats || !beat_at_) beat_at_ = now;
    if (!signs.unread)
        unread_since_.reset();
    else if (!unread_since_ || beats)
        unread_since_ = now;
    heartbeat_ = signs.heartbeat;

    // A worker that was stopped while it read claims for ever that its source is slow.
    const bool waits = signs.slow_source && now - *beat_at_ <= limit_;
    const auto patience = waits && limit_ < kInfinity / kSlowFactor ? limit_ * kSlowFactor : limit_;
    // A time in the future is a lie or a race and shows nothing.
    const auto waits_since = std::max(signs.oldest_fault, began_);
    if (signs.oldest_fault != 0 && waits_since <= now && now - waits_since > patience) return true;
    return unread_since_ && now - *unread_since_ > patience;
}

bool store_has_room(
    std::size_t capacity, std::size_t sessions, std::size_t image_files, std::size_t new_files
) {
    return (sessions + 1) * kStoredPerSession + image_files + new_files <= capacity;
}

bool is_final_stop(std::string_view job_type) {
    return job_type == "stop";
}

} // namespace thaw::pagerd
