// SPDX-License-Identifier: MIT
#pragma once

// Reading and writing on disks, any of which may hang: never in the event loop, and never waited
// for at the daemon's end. Questions about the same thing are worked off one after the other, so
// that a removal that is late comes before what is made anew; others don't wait for them.

#include "event/event.hpp"
#include "event/worker.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace thaw {

// A disk that is only slow has answered by then.
inline constexpr Microseconds kDiskPatience = 30 * kUsecPerSec;

// Owns an outstanding question; destroying it forgets the handler. What was begun runs to its end.
class DiskQuestion {
public:
    virtual ~DiskQuestion() = default;
};
using DiskHandle = std::unique_ptr<DiskQuestion>;

// Outlives its questions' handlers.
class Disk {
public:
    static Result<std::unique_ptr<Disk>>
    create(EventLoop& loop, Microseconds patience = kDiskPatience);

    // `work` runs in a thread, with nothing but its own copies. `done` gets what it returned, or
    // ETIMEDOUT; never from inside the call. `about` names the thing, and begins that error's text.
    template <class T>
    [[nodiscard]] DiskHandle
    ask(const std::string& about, std::function<Result<T>()> work,
        std::function<void(Result<T>)> done) {
        return push(
            about,
            [work = std::move(work)]() -> std::shared_ptr<void> {
                return std::make_shared<Result<T>>(work());
            },
            [done = std::move(done)](Result<std::shared_ptr<void>> answer) {
                if (!answer) return done(std::unexpected(std::move(answer).error()));
                done(std::move(*static_cast<Result<T>*>(answer->get())));
            }
        );
    }

private:
    class Question;
    struct Lane {
        std::unique_ptr<Worker> worker;
        unsigned outstanding = 0;
    };
    using Answer = std::function<void(Result<std::shared_ptr<void>>)>;
    Disk(EventLoop& loop, Microseconds patience) : loop_(loop), patience_(patience) {}
    DiskHandle
    push(const std::string& about, std::function<std::shared_ptr<void>()> work, Answer answer);
    Result<Lane*> find_lane(const std::string& about);
    void leave_lane(const std::string& about);

    EventLoop& loop_;
    Microseconds patience_;
    std::unique_ptr<Mailbox> mailbox_;
    std::map<std::string, Lane> lanes_;
};

} // namespace thaw
