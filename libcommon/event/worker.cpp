// SPDX-License-Identifier: MIT
#include "event/worker.hpp"

#include "event/priorities.hpp"
#include "event/signals_blocked.hpp"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace thaw {

struct Mailbox::Outbox {
    struct Letter {
        std::uint64_t worker;
        std::uint64_t id;
        std::shared_ptr<void> value;
    };
    std::mutex mutex;
    std::vector<Letter> letters;
    Fd bell;
};

struct Worker::Queue {
    struct Job {
        std::uint64_t id;
        Work work;
    };
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> jobs;
    bool closed = false;
};

Result<std::unique_ptr<Mailbox>> Mailbox::create(EventLoop& loop) {
    auto mailbox = std::unique_ptr<Mailbox>(new Mailbox);
    mailbox->outbox_ = std::make_shared<Outbox>();
    mailbox->outbox_->bell = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!mailbox->outbox_->bell) return fail_errno(errno, "make an eventfd");
    THAW_TRY(
        mailbox->source_, loop.add_io(
                              mailbox->outbox_->bell.get(), EPOLLIN,
                              [self = mailbox.get()](std::uint32_t) { self->deliver(); },
                              "worker-answers", priority::kNotify
                          )
    );
    return mailbox;
}

Mailbox::~Mailbox() {
    THAW_INVARIANT(workers_.empty());
}

void Mailbox::deliver() {
    std::uint64_t rings = 0;
    (void)!::read(outbox_->bell.get(), &rings, sizeof rings); // only how often it rang
    std::vector<Outbox::Letter> letters;
    {
        const std::lock_guard lock(outbox_->mutex);
        letters.swap(outbox_->letters);
    }
    for (auto& letter : letters) {
        // An answer may end its own worker, or another one.
        const auto found = workers_.find(letter.worker);
        if (found != workers_.end()) found->second->answered(letter.id, letter.value.get());
    }
}

Result<std::unique_ptr<Worker>> Worker::start(Mailbox& mailbox, const std::string& name) {
    auto worker = std::unique_ptr<Worker>(new Worker(mailbox, mailbox.next_++));
    worker->queue_ = std::make_shared<Queue>();
    mailbox.workers_[worker->key_] = worker.get();
    const auto serve = [queue = worker->queue_, outbox = mailbox.outbox_, key = worker->key_] {
        std::unique_lock lock(queue->mutex);
        for (;;) {
            queue->changed.wait(lock, [&] { return queue->closed || !queue->jobs.empty(); });
            if (queue->closed) return;
            auto job = std::move(queue->jobs.front());
            queue->jobs.pop_front();
            lock.unlock();
            auto value = job.work();
            {
                const std::lock_guard letters(outbox->mutex);
                outbox->letters.push_back({key, job.id, std::move(value)});
            }
            const std::uint64_t one = 1;
            (void)!::write(outbox->bell.get(), &one, sizeof one); // full: it rings anyway
            lock.lock();
        }
    };
    const AllSignalsBlocked blocked;
    try {
        std::thread thread(serve);
        constexpr std::size_t kNameLimit = 15;
        pthread_setname_np(thread.native_handle(), name.substr(0, kNameLimit).c_str());
        thread.detach();
    } catch (const std::system_error& error) {
        return fail_errno(error.code().value(), "start a thread");
    }
    return worker;
}

Worker::~Worker() {
    mailbox_.workers_.erase(key_);
    const std::lock_guard lock(queue_->mutex);
    queue_->closed = true;
    queue_->jobs.clear();
    queue_->changed.notify_one();
}

void Worker::push(Work work, Answer answer) {
    const auto id = next_++;
    pending_.emplace(id, Pending{std::move(answer), now_monotonic()});
    const std::lock_guard lock(queue_->mutex);
    queue_->jobs.push_back({id, std::move(work)});
    queue_->changed.notify_one();
}

void Worker::answered(std::uint64_t id, void* value) {
    auto pending = pending_.extract(id);
    if (pending) pending.mapped().answer(value);
}

Microseconds Worker::oldest() const {
    return pending_.empty() ? kInfinity : pending_.begin()->second.asked;
}

} // namespace thaw
