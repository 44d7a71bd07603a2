// SPDX-License-Identifier: MIT
#include "event/background.hpp"

#include "core/fd.hpp"
#include "event/priorities.hpp"
#include "event/signals_blocked.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

namespace thaw {

namespace {

// For what is canceled to take its temporary files away.
constexpr std::chrono::seconds kGrace{2};

} // namespace

struct BackgroundTask::Shared {
    Canceled canceled{false};
    Fd bell; // eventfd
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<Result<>> result;
};

BackgroundTask::BackgroundTask(Done done)
    : done_(std::move(done)), shared_(std::make_shared<Shared>()) {}

Result<std::unique_ptr<BackgroundTask>>
BackgroundTask::start(EventLoop& loop, Work work, Done done) {
    std::unique_ptr<BackgroundTask> task(new BackgroundTask(std::move(done)));
    auto* self = task.get();
    const auto& shared = self->shared_;
    shared->bell = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!shared->bell) return fail_errno(errno, "make an eventfd");
    THAW_TRY(
        self->source_,
        loop.add_io(
            shared->bell.get(), EPOLLIN, [self](std::uint32_t) { self->on_finished(); },
            "background", priority::kReconcile
        )
    );
    const AllSignalsBlocked blocked;
    try {
        self->thread_ = std::thread([shared, work = std::move(work)] {
            auto result = work(shared->canceled);
            const std::lock_guard lock(shared->mutex);
            shared->result = std::move(result);
            shared->changed.notify_one();
            (void)eventfd_write(shared->bell.get(), 1); // cannot be full
        });
    } catch (const std::system_error& error) {
        return fail_errno(error.code().value(), "start a thread");
    }
    return task;
}

void BackgroundTask::cancel() {
    shared_->canceled = true;
}

void BackgroundTask::on_finished() {
    source_.reset();
    thread_.join();
    const auto done = std::move(done_);
    auto result = std::exchange(shared_->result, std::nullopt);
    if (result) done(std::move(*result)); // `this` may be gone now
}

BackgroundTask::~BackgroundTask() {
    if (!thread_.joinable()) return;
    cancel();
    std::unique_lock lock(shared_->mutex);
    const bool ended =
        shared_->changed.wait_for(lock, kGrace, [this] { return shared_->result.has_value(); });
    lock.unlock();
    if (ended)
        thread_.join();
    else
        thread_.detach();
}

} // namespace thaw
