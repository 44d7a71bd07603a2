// SPDX-License-Identifier: MIT
#include "event/event.hpp"

#include <sys/epoll.h>

#include <csignal>
#include <string>
#include <utility>

namespace thaw {

// Shared by the EventSource and, while it runs, the trampoline: a callback may destroy its own
// source, and what it captured must live until it returns.
struct EventSource::State : std::enable_shared_from_this<EventSource::State> {
    sd_event_source* source = nullptr;
    int enabled_mode = SD_EVENT_ON; // what "on" means for this kind
    std::function<void(std::uint32_t)> on_io;
    std::function<void()> on_event;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { disconnect(); }

    void disconnect() noexcept { source = sd_event_source_disable_unref(source); }

    // noexcept: an exception ends the process here, with its text, instead of unwinding through C.
    // NOLINTBEGIN(bugprone-exception-escape)
    static int run_io(sd_event_source*, int, std::uint32_t revents, void* data) noexcept {
        const auto self = static_cast<State*>(data)->shared_from_this();
        self->on_io(revents);
        return 0;
    }
    static int run_exit(sd_event_source*, int, std::uint32_t, void* data) noexcept {
        return run(data);
    }
    static int run_timer(sd_event_source*, std::uint64_t, void* data) noexcept { return run(data); }
    static int run_defer(sd_event_source*, void* data) noexcept { return run(data); }
    static int run_signal(sd_event_source*, const signalfd_siginfo*, void* data) noexcept {
        return run(data);
    }
    static int run(void* data) noexcept {
        const auto self = static_cast<State*>(data)->shared_from_this();
        self->on_event();
        return 0;
    }
    // NOLINTEND(bugprone-exception-escape)

    // The common end of every add_*(): `r` is what sd-event said.
    Result<> finish(int r, int mode, std::string_view description, std::int64_t priority) {
        enabled_mode = mode;
        if (r >= 0) r = sd_event_source_set_priority(source, priority);
        if (r >= 0) r = sd_event_source_set_description(source, std::string(description).c_str());
        if (r >= 0) r = sd_event_source_set_enabled(source, mode);
        if (r < 0) return fail_errno(-r, "watch {}", description);
        return {};
    }
};

namespace {

// Timers of ours are timeouts and debounces: sd-event's default of 250 ms would show in tests and
// in the pager's watchdog, below a millisecond nobody can tell.
constexpr Microseconds kTimerAccuracy = kUsecPerMsec;

// From this very moment, not from the start of the loop's iteration; kInfinity never fires.
Microseconds deadline_after(Microseconds delay) {
    const Microseconds now = now_monotonic();
    return delay >= kInfinity - now ? kInfinity : now + delay;
}

} // namespace

EventSource::EventSource() noexcept = default;
EventSource::EventSource(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
EventSource::EventSource(EventSource&&) noexcept = default;

EventSource& EventSource::operator=(EventSource&& other) noexcept {
    if (this != &other) {
        auto incoming = std::move(other.state_);
        reset();
        state_ = std::move(incoming);
    }
    return *this;
}

EventSource::~EventSource() {
    reset();
}

sd_event_source* EventSource::get() const noexcept {
    return state_ ? state_->source : nullptr;
}

void EventSource::reset() noexcept {
    // Out of the member first: what the callback captured may come back here when it is freed.
    const auto state = std::exchange(state_, nullptr);
    if (state) state->disconnect();
}

void EventSource::enable(bool on) noexcept {
    if (!state_) return;
    const int mode = on ? state_->enabled_mode : SD_EVENT_OFF;
    // Fails only for a forked child or a finished loop, where nothing is delivered anyway.
    static_cast<void>(sd_event_source_set_enabled(state_->source, mode));
}

Result<> EventSource::set_io_events(std::uint32_t events) {
    THAW_INVARIANT(state_ != nullptr);
    const int r = sd_event_source_set_io_events(state_->source, events);
    if (r < 0) return fail_errno(-r, "change the events of a descriptor");
    return {};
}

Result<> EventSource::rearm(Microseconds delay) {
    THAW_INVARIANT(state_ != nullptr);
    int r = sd_event_source_set_time(state_->source, deadline_after(delay));
    if (r >= 0) r = sd_event_source_set_enabled(state_->source, SD_EVENT_ONESHOT);
    if (r < 0) return fail_errno(-r, "set a timer");
    return {};
}

Result<EventLoop> EventLoop::create() {
    sd_event* event = nullptr;
    const int r = sd_event_new(&event);
    if (r < 0) return fail_errno(-r, "make an event loop");
    return EventLoop(event);
}

EventLoop::EventLoop(EventLoop&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}

EventLoop& EventLoop::operator=(EventLoop&& other) noexcept {
    if (this != &other) {
        sd_event_unref(event_);
        event_ = std::exchange(other.event_, nullptr);
    }
    return *this;
}

EventLoop::~EventLoop() {
    sd_event_unref(event_);
}

Result<EventSource> EventLoop::add_io(
    int fd, std::uint32_t epoll_events, std::function<void(std::uint32_t)> callback,
    std::string_view description, std::int64_t priority
) {
    auto state = std::make_shared<EventSource::State>();
    state->on_io = std::move(callback);
    const int r = sd_event_add_io(
        event_, &state->source, fd, epoll_events, EventSource::State::run_io, state.get()
    );
    THAW_CHECK(state->finish(r, SD_EVENT_ON, description, priority));
    return EventSource(std::move(state));
}

Result<EventSource> EventLoop::add_timer(
    Microseconds delay, std::function<void()> callback, std::string_view description,
    std::int64_t priority
) {
    auto state = std::make_shared<EventSource::State>();
    state->on_event = std::move(callback);
    const int r = sd_event_add_time(
        event_, &state->source, CLOCK_MONOTONIC, deadline_after(delay), kTimerAccuracy,
        EventSource::State::run_timer, state.get()
    );
    THAW_CHECK(state->finish(r, SD_EVENT_ONESHOT, description, priority));
    return EventSource(std::move(state));
}

Result<EventSource> EventLoop::add_defer(
    std::function<void()> callback, std::string_view description, std::int64_t priority
) {
    auto state = std::make_shared<EventSource::State>();
    state->on_event = std::move(callback);
    const int r =
        sd_event_add_defer(event_, &state->source, EventSource::State::run_defer, state.get());
    THAW_CHECK(state->finish(r, SD_EVENT_ONESHOT, description, priority));
    return EventSource(std::move(state));
}

Result<EventSource> EventLoop::add_signal(
    int signal, std::function<void()> callback, std::string_view description, std::int64_t priority
) {
    // Stays blocked when the source goes: a second SIGTERM must not kill a daemon that is putting
    // its things away.
    sigset_t set;
    sigemptyset(&set);
    if (sigaddset(&set, signal) < 0) return fail_errno(errno, "watch {}", description);
    if (const int r = pthread_sigmask(SIG_BLOCK, &set, nullptr); r != 0)
        return fail_errno(r, "block signal {}", signal);
    auto state = std::make_shared<EventSource::State>();
    state->on_event = std::move(callback);
    const int r = sd_event_add_signal(
        event_, &state->source, signal, EventSource::State::run_signal, state.get()
    );
    THAW_CHECK(state->finish(r, SD_EVENT_ON, description, priority));
    return EventSource(std::move(state));
}

Result<EventSource> EventLoop::add_process_exit(
    int pidfd, std::function<void()> callback, std::string_view description, std::int64_t priority
) {
    // Not sd_event_add_child(): that reaps, and most of the processes watched are not our children.
    auto state = std::make_shared<EventSource::State>();
    state->on_event = std::move(callback);
    const int r = sd_event_add_io(
        event_, &state->source, pidfd, EPOLLIN, EventSource::State::run_exit, state.get()
    );
    THAW_CHECK(state->finish(r, SD_EVENT_ONESHOT, description, priority));
    return EventSource(std::move(state));
}

Result<> EventLoop::enable_watchdog() {
    const int r = sd_event_set_watchdog(event_, 1);
    if (r < 0) return fail_errno(-r, "start the watchdog");
    return {};
}

Result<int> EventLoop::run() {
    const int r = sd_event_loop(event_);
    if (r < 0) return fail_errno(-r, "run the event loop");
    return r;
}

Result<bool> EventLoop::run_once(Microseconds timeout) {
    const int r = sd_event_run(event_, timeout);
    if (r < 0) return fail_errno(-r, "run the event loop once");
    return r > 0;
}

void EventLoop::exit(int code) {
    // Fails only once the loop has ended, when there is nothing left to ask for.
    static_cast<void>(sd_event_exit(event_, code));
}

} // namespace thaw
