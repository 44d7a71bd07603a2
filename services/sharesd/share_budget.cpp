// SPDX-License-Identifier: MIT
// What a share uses, and what is said about it.
#include "api/shares1.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "share.hpp"

#include <time.h>

namespace thaw::sharesd {

namespace {

constexpr std::size_t kMostSamples = 256;

// A daemon that is just ending cannot be counted for a moment.
constexpr Microseconds kSecondLook = 100 * kUsecPerMsec;
// So many of them until its unit has told of its end, even where systemd is busy.
constexpr unsigned kLooksForItsEnd = 20;
// The daemon's own word for what the count has shown already.
constexpr Microseconds kSameExhaustion = 5 * kUsecPerSec;

// What counting costs, not how long others held it up.
Microseconds cpu_time() {
    timespec used = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return static_cast<Microseconds>(used.tv_sec) * kUsecPerSec +
           static_cast<Microseconds>(used.tv_nsec) / 1000;
}

template <class T>
std::optional<T> value_of(const Result<T>& result) {
    return result ? std::optional<T>(*result) : std::nullopt;
}

LogLevel severity(Level level) {
    switch (level) {
    case Level::Normal:
        return LogLevel::Info;
    case Level::Elevated:
        return LogLevel::Notice;
    case Level::High:
        return LogLevel::Warning;
    case Level::Critical:
    case Level::Unknown:
        break;
    }
    return LogLevel::Error;
}

} // namespace

std::uint64_t Share::budget() const {
    return guest_budget(effective_limit_, record_.dialect, record_.options.threads);
}

void Share::forget_use() {
    used_.reset();
    rss_.reset();
    uncounted_ = vanished_ = 0;
    exhausted_at_ = 0;
    samples_.clear();
    descriptor_level_ = memory_level_ = Level::Normal;
    changed({"DescriptorLevel", "MemoryLevel", "Remedies"});
}

void Share::poll() {
    if (!is_up(state_) || main_pid_ <= 0) return;
    measure();
    look_for_client();
    auto delay = next_poll(descriptor_level_, used_, budget(), poll_cost_);
    // Without a client nothing is used up, and the daemon says when one comes.
    if (state_ == ShareState::Listening && worst_level() == Level::Normal &&
        context_.log != nullptr)
        delay = kLongestPoll;
    if (uncounted_ == 1 || (vanished_ > 0 && vanished_ < kLooksForItsEnd)) delay = kSecondLook;
    if (poll_ && poll_.rearm(delay)) return;
    auto timer = context_.loop.add_timer(delay, [this] { poll(); }, "share-poll", priority::kTimer);
    THAW_INVARIANT(timer.has_value());
    poll_ = std::move(*timer);
}

void Share::measure() {
    const auto when = now_monotonic();
    const auto begin = cpu_time();
    const auto worker = worker_of(main_pid_);
    Result<std::uint64_t> open = fail(ENODATA, "the daemon's processes cannot be looked at");
    Result<std::uint64_t> rss = fail(ENODATA, "the daemon's processes cannot be looked at");
    if (worker) {
        worker_pid_ = *worker;
        open = count_descriptors(*worker, context_.method);
        rss = resident_memory(*worker);
    }
    poll_cost_ = cpu_time() - begin;
    const auto gone = [](const auto& result) {
        return !result && (result.error().code() == ENOENT || result.error().code() == ESRCH);
    };
    // It just ended: its unit tells, and nothing is unknown about it. A unit that does not say so
    // has a process that is hidden from us.
    const bool hidden = gone(worker) || gone(open) || gone(rss);
    vanished_ = hidden ? vanished_ + 1 : 0;
    if (hidden && vanished_ < kLooksForItsEnd) return;
    uncounted_ = worker && open && rss ? 0 : uncounted_ + 1;
    if (uncounted_ > 0) {
        const auto& why = !worker ? worker.error() : !open ? open.error() : rss.error();
        log_debug(log_fields(), "{}: {}", id_, why.message());
        if (uncounted_ == 1 && !hidden) return;
    }
    auto used = value_of(open);
    if (used) {
        used = guest_use(*used, record_.dialect);
        samples_.push_back({when, *used});
        if (samples_.size() > kMostSamples) samples_.pop_front();
    }
    set_levels(used, value_of(rss));
}

void Share::set_levels(std::optional<std::uint64_t> used, std::optional<std::uint64_t> rss) {
    used_ = used;
    rss_ = rss;
    const auto descriptors = next_level(descriptor_level_, used, budget());
    const auto memory = next_level(memory_level_, rss, record_.options.memory_high);
    const auto report = [this](
                            std::string_view resource, Level& now, Level next,
                            std::optional<std::uint64_t> value, std::uint64_t of
                        ) {
        for (const auto level : levels_between(now, next))
            report_level(resource, std::exchange(now, level), level, value.value_or(kInfinity), of);
    };
    report("descriptors", descriptor_level_, descriptors, used, budget());
    report("memory", memory_level_, memory, rss, record_.options.memory_high);
    if (used && is_exhausted(*used, budget())) set_exhausted(true);
    if (used && descriptors < Level::Critical) set_exhausted(false);
    const bool press =
        std::max(descriptors, memory) >= Level::High && worst_level() != Level::Unknown;
    const bool may_drop = !context_.config.drop_caches_unit.empty() &&
                          (caches_dropped_ == 0 || now_monotonic() - caches_dropped_ >
                                                       context_.config.drop_caches_interval);
    if (press && may_drop) (void)drop_caches(); // it is configured: nothing to fail
}

void Share::report_level(
    std::string_view resource, Level from, Level to, std::uint64_t used, std::uint64_t budget
) {
    const bool memory = resource == "memory";
    const std::string old_word(kLevelNames.name(from));
    const std::string new_word(kLevelNames.name(to));
    auto fields = log_fields();
    fields.push_back({"THAW_RESOURCE", std::string(resource)});
    fields.push_back({"THAW_LEVEL", new_word});
    std::string text;
    if (to == Level::Unknown) {
        text = "cannot be counted";
    } else {
        text = memory ? fmt::format("{} of {}", format_size(used), format_size(budget))
                      : fmt::format("{} of {}", used, budget);
        const std::vector<Sample> samples(samples_.begin(), samples_.end());
        const auto left = memory ? kInfinity : forecast(samples, budget);
        if (to > from && left != kInfinity) text += ", used up in " + format_timespan(left);
        if (const auto words = current_remedies(); to > from && !words.empty())
            text += fmt::format("; what helps: {}", fmt::join(words, ", "));
        fields.push_back({"THAW_USED", std::to_string(used)});
        fields.push_back({"THAW_BUDGET", std::to_string(budget)});
    }
    log_event(
        severity(to), message_id::kShareLevel, fields, "{}: {} {} -> {}: {}", id_, resource,
        old_word, new_word, text
    );
    changed({memory ? "MemoryLevel" : "DescriptorLevel", "Remedies"});
    if (published_)
        (void)context_.bus.emit_signal(
            path_, shares1::kShareInterface, "LevelChanged", "ssstt", std::string(resource).c_str(),
            old_word.c_str(), new_word.c_str(), used, budget
        );
}

void Share::set_exhausted(bool exhausted) {
    if (exhausted == (state_ == ShareState::Exhausted)) return;
    if (!exhausted) {
        log_event(
            LogLevel::Info, message_id::kShareRecovered, log_fields(),
            "{}: descriptors are to be had again, {} of {} in use", id_, used_.value_or(0), budget()
        );
        return set_state(ShareState::Connected);
    }
    exhausted_at_ = now_monotonic();
    // Only a client can have used it up.
    look_for_client();
    if (state_ == ShareState::Listening) set_state(ShareState::Connected);
    set_state(ShareState::Exhausted);
    log_event(
        LogLevel::Error, message_id::kShareExhausted, log_fields(),
        "{}: out of descriptors ({} of {}): the guest sees \"Too many open files\"", id_,
        used_.value_or(0), budget()
    );
    if (published_)
        (void)context_.bus.emit_signal(
            path_, shares1::kShareInterface, "Exhausted", "tt", used_.value_or(kInfinity), budget()
        );
}

// The daemon tells it once in its life, and the journal a while later.
void Share::on_exhausted_line() {
    measure();
    if (state_ == ShareState::Exhausted) return;
    if (exhausted_at_ != 0 && now_monotonic() - exhausted_at_ < kSameExhaustion) return;
    set_exhausted(true); // the next count takes it back when it is over
}

void Share::look_for_client() {
    if (state_ != ShareState::Listening || !context_.connections.is_connected(socket_)) return;
    if (!std::exchange(record_.connected, true)) keep();
    set_state(ShareState::Connected);
    log_info(log_fields(), "{}: a VMM is connected", id_);
}

std::vector<std::string> Share::current_remedies() const {
    return remedies({
        .descriptors = descriptor_level_,
        .memory = memory_level_,
        .can_drop_caches = !context_.config.drop_caches_unit.empty(),
        .uses_handles = record_.handles != HandleMode::Never,
        .handles_possible = record_.dialect != Dialect::C && record_.options.user.empty(),
        .limit_can_rise = effective_limit_ < context_.nr_open,
        .rises_live = notices_raised_limit(record_.dialect),
    });
}

} // namespace thaw::sharesd
