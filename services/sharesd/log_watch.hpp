// SPDX-License-Identifier: MIT
#pragma once

// What the daemons of the shares say, from the journal: virtiofsd tells some things nowhere else,
// and the exhaustion of its descriptors once in its life. Which unit a line comes from is the
// journal's word, not the line's.

#include "event/event.hpp"
#include "exit_class.hpp"

#include <functional>
#include <memory>
#include <string>

struct sd_journal;

namespace thaw::sharesd {

// SyslogIdentifier= of thaw-virtiofsd@.service.
inline constexpr const char* kDaemonIdentifier = "thaw-virtiofsd";

struct LogLine {
    std::string unit;
    std::string invocation; // of the unit, by which a line of the daemon before is told apart
    std::string text;
};

class LogWatch {
public:
    using Handler = std::function<void(const LogLine& line)>;
    // From now on; without a journal nothing is ever heard.
    static Result<std::unique_ptr<LogWatch>> start(EventLoop& loop, Handler handler);
    ~LogWatch();
    LogWatch(const LogWatch&) = delete;
    LogWatch& operator=(const LogWatch&) = delete;

    // What is there and was not delivered yet, or a part of it and the rest soon.
    void drain();

    // The last lines of a unit, none from before `since` (wall clock), oldest first: for the time
    // we were away. Reads a bounded part of the journal.
    static Result<> replay(const std::string& unit, Microseconds since, const Handler& handler);

private:
    LogWatch(sd_journal* journal, Handler handler)
        : journal_(journal), handler_(std::move(handler)) {}
    Result<> attach(EventLoop& loop);

    sd_journal* journal_;
    Handler handler_;
    EventLoop* loop_ = nullptr;
    EventSource source_;
    EventSource poll_;
    EventSource more_;
};

} // namespace thaw::sharesd
