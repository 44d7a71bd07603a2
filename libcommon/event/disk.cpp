// SPDX-License-Identifier: MIT
#include "event/disk.hpp"

#include "event/priorities.hpp"

namespace thaw {

// Shared by whoever waits and the answer that is on its way.
class Disk::Question {
public:
    explicit Question(Answer answer) : answer_(std::move(answer)) {}
    void settle(Result<std::shared_ptr<void>> value) {
        limit_.reset();
        if (const auto answer = std::exchange(answer_, nullptr)) answer(std::move(value));
    }
    void settle_later(EventLoop& loop, Microseconds delay, Error error) {
        auto timer = loop.add_timer(
            delay, [this, error = std::move(error)] { settle(std::unexpected(error)); },
            "disk-limit", priority::kTimer
        );
        THAW_INVARIANT(timer.has_value());
        limit_ = std::move(*timer);
    }
    void forget() {
        limit_.reset();
        answer_ = nullptr;
    }

private:
    Answer answer_;
    EventSource limit_;
};

Result<std::unique_ptr<Disk>> Disk::create(EventLoop& loop, Microseconds patience) {
    auto disk = std::unique_ptr<Disk>(new Disk(loop, patience));
    THAW_TRY(disk->mailbox_, Mailbox::create(loop));
    return disk;
}

Result<Disk::Lane*> Disk::find_lane(const std::string& about) {
    auto& lane = lanes_[about];
    if (lane.worker) return &lane;
    auto worker = Worker::start(*mailbox_, "disk");
    if (!worker) {
        lanes_.erase(about);
        return std::unexpected(std::move(worker).error());
    }
    lane.worker = std::move(*worker);
    return &lane;
}

void Disk::leave_lane(const std::string& about) {
    const auto lane = lanes_.find(about);
    THAW_INVARIANT(lane != lanes_.end());
    if (--lane->second.outstanding == 0) lanes_.erase(lane);
}

DiskHandle
Disk::push(const std::string& about, std::function<std::shared_ptr<void>()> work, Answer answer) {
    class Handle final : public DiskQuestion {
    public:
        explicit Handle(std::shared_ptr<Question> question) : question_(std::move(question)) {}
        Handle(const Handle&) = delete;
        Handle& operator=(const Handle&) = delete;
        ~Handle() override { question_->forget(); }

    private:
        std::shared_ptr<Question> question_;
    };
    const auto question = std::make_shared<Question>(std::move(answer));
    auto handle = std::make_unique<Handle>(question);
    const auto lane = find_lane(about);
    if (!lane) {
        question->settle_later(loop_, 0, lane.error());
        return handle;
    }
    ++(*lane)->outstanding;
    (*lane)->worker->run<std::shared_ptr<void>>(
        std::move(work),
        [this, about, question](std::shared_ptr<void> value) {
            leave_lane(about);
            question->settle(std::move(value));
        }
    );
    question->settle_later(
        loop_, patience_,
        {ETIMEDOUT,
         fmt::format("{}: its disk did not answer within {}", about, format_timespan(patience_))}
    );
    return handle;
}

} // namespace thaw
