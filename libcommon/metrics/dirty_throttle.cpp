// SPDX-License-Identifier: MIT
#include "metrics/dirty_throttle.hpp"

#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <list>

namespace thaw::metrics {

struct DirtyThrottle::Shared {
    std::list<std::string> writers; // what each of them writes
};

DirtyThrottle::DirtyThrottle(Microseconds interval)
    : interval_(interval), shared_(std::make_shared<Shared>()) {
    counters_.known = sampler_.known();
}

Result<std::unique_ptr<DirtyThrottle>>
DirtyThrottle::create(EventLoop& loop, Microseconds interval) {
    std::unique_ptr<DirtyThrottle> self(new DirtyThrottle(interval));
    auto* throttle = self.get();
    auto timer = loop.add_timer(
        interval, [throttle] { throttle->look(); }, "dirty-throttle", priority::kTimer
    );
    if (!timer) return std::unexpected(std::move(timer).error());
    self->timer_ = std::move(*timer);
    self->timer_.enable(false);
    return self;
}

DirtyThrottle::Writing DirtyThrottle::begin(std::string what) {
    if (shared_->writers.empty() && counters_.known)
        if (auto armed = timer_.rearm(interval_); !armed)
            log_warning("nobody looks whether writers are held back: {}", armed.error().message());
    const auto place = shared_->writers.insert(shared_->writers.end(), std::move(what));
    // The end of the last one is noticed at the next look, so it needs nothing of this object.
    return Writing(std::shared_ptr<void>(nullptr, [shared = shared_, place](void*) {
        shared->writers.erase(place);
    }));
}

DirtyThrottle::Counters DirtyThrottle::counters() const {
    Counters counters = counters_;
    counters.writing = !shared_->writers.empty();
    return counters;
}

std::string_view DirtyThrottle::state() const {
    if (!counters_.known) return "unknown";
    return shared_->writers.empty() ? "idle" : "writing";
}

void DirtyThrottle::look() {
    if (shared_->writers.empty()) return;
    if (const auto threads = sampler_.throttled_threads()) {
        ++counters_.looks;
        counters_.throttled += *threads;
        if (*threads > 0) report(*threads);
    }
    if (auto armed = timer_.rearm(interval_); !armed)
        log_warning("nobody looks whether writers are held back: {}", armed.error().message());
}

void DirtyThrottle::report(std::uint32_t threads) {
    const Microseconds now = now_monotonic();
    if (reported_ != 0 && now - reported_ < kReportEvery) return;
    reported_ = now;
    const std::string& what = shared_->writers.front();
    log_event(
        LogLevel::Warning, message_id::kWritesThrottled,
        {{"THAW_THREADS", std::to_string(threads)}, {"THAW_WRITING", what}},
        "the kernel holds back {} that write{} {}: more is dirty than the disk keeps up with",
        threads == 1 ? "1 thread" : std::to_string(threads) + " threads", threads == 1 ? "s" : "",
        what
    );
}

} // namespace thaw::metrics
