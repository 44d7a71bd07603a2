// SPDX-License-Identifier: MIT
#include "event/background.hpp"

#include "event/priorities.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <system_error>

namespace thaw {

namespace {

// Signals are the loop's: a thread that has them unblocked would take them away from it.
class AllSignalsBlocked {
public:
    AllSignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    AllSignalsBlocked(const AllSignalsBlocked&) = delete;
    AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;
    ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_{};
};

} // namespace

Result<std::unique_ptr<BackgroundTask>>
BackgroundTask::start(EventLoop& loop, Work work, Done done) {
    std::unique_ptr<BackgroundTask> task(new BackgroundTask(std::move(done)));
    auto* self = task.get();
    self->finished_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!self->finished_) return fail_errno(errno, "make an eventfd");
    THAW_TRY(
        self->source_,
        loop.add_io(
            self->finished_.get(), EPOLLIN, [self](std::uint32_t) { self->on_finished(); },
            "background", priority::kReconcile
        )
    );
    const AllSignalsBlocked blocked;
    try {
        self->thread_ = std::thread([self, work = std::move(work)] {
            self->result_ = work(self->canceled_);
            (void)eventfd_write(self->finished_.get(), 1); // cannot be full
        });
    } catch (const std::system_error& error) {
        return fail_errno(error.code().value(), "start a thread");
    }
    return task;
}

void BackgroundTask::on_finished() {
    source_.reset();
    thread_.join();
    const auto done = std::move(done_);
    done(std::move(*result_)); // `this` may be gone now
}

BackgroundTask::~BackgroundTask() {
    canceled_ = true;
    if (thread_.joinable()) thread_.join();
}

} // namespace thaw
