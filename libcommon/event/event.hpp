// SPDX-License-Identifier: MIT
#pragma once

// RAII over sd-event. One loop per process, one thread. Callbacks must not throw: an exception that
// reaches the trampoline ends the process (log, abort).
//
// An EventSource owns its callback: destroying it disables the source and frees the callback, also
// from inside that very callback.

#include "core/error.hpp"
#include "core/text.hpp"

#include <systemd/sd-event.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

namespace thaw {

class EventSource {
public:
    EventSource() noexcept;
    EventSource(EventSource&&) noexcept;
    EventSource& operator=(EventSource&&) noexcept;
    EventSource(const EventSource&) = delete;
    EventSource& operator=(const EventSource&) = delete;
    ~EventSource();

    explicit operator bool() const noexcept { return state_ != nullptr; }
    sd_event_source* get() const noexcept;
    void reset() noexcept;
    // Stops / restarts delivery without giving the source up.
    void enable(bool on) noexcept;
    // I/O sources: the epoll events waited for.
    Result<> set_io_events(std::uint32_t events);
    // Timer sources: fires once, `delay` from now (re-enables it).
    Result<> rearm(Microseconds delay);

private:
    friend class EventLoop;
    struct State;
    explicit EventSource(std::shared_ptr<State> state) noexcept;
    std::shared_ptr<State> state_;
};

class EventLoop {
public:
    // Creates the loop. ENOMEM, EMFILE.
    static Result<EventLoop> create();
    EventLoop(EventLoop&&) noexcept;
    EventLoop& operator=(EventLoop&&) noexcept;
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;
    ~EventLoop();

    sd_event* get() const noexcept { return event_; }

    // `fd` stays the caller's and must outlive the source.
    Result<EventSource> add_io(
        int fd, std::uint32_t epoll_events, std::function<void(std::uint32_t revents)> callback,
        std::string_view description, std::int64_t priority
    );
    // One shot, `delay` from now, CLOCK_MONOTONIC; re-arm with EventSource::rearm().
    Result<EventSource> add_timer(
        Microseconds delay, std::function<void()> callback, std::string_view description,
        std::int64_t priority
    );
    // Runs once, before the loop sleeps next.
    Result<EventSource>
    add_defer(std::function<void()> callback, std::string_view description, std::int64_t priority);
    // Blocks the signal for the process and delivers it here.
    Result<EventSource> add_signal(
        int signal, std::function<void()> callback, std::string_view description,
        std::int64_t priority
    );
    // Fires once when the process behind `pidfd` has exited. The caller keeps the pidfd open.
    Result<EventSource> add_process_exit(
        int pidfd, std::function<void()> callback, std::string_view description,
        std::int64_t priority
    );

    // Sends WATCHDOG=1 at half the interval when the unit has WatchdogSec=.
    Result<> enable_watchdog();
    // Runs until exit(); returns the exit code.
    Result<int> run();
    // One iteration, waits at most `timeout`; true when something was dispatched (tests).
    Result<bool> run_once(Microseconds timeout);
    void exit(int code);

private:
    explicit EventLoop(sd_event* event) noexcept : event_(event) {}
    sd_event* event_ = nullptr;
};

} // namespace thaw
