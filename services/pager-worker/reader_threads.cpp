// SPDX-License-Identifier: MIT
#include "reader_threads.hpp"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>

namespace thaw::worker {

struct ReaderThreads::Shared {
    Fd event;
    std::mutex mutex;
    std::condition_variable wanted;
    std::condition_variable started;
    std::deque<ReadRequest> requests;
    std::vector<ReadEnd> ends;
    unsigned running = 0;
};

namespace {

std::int64_t read_file(const ReadRequest& request) {
    for (;;) {
        const ssize_t got = ::pread(
            request.fd, request.target.data(), request.target.size(),
            static_cast<off_t>(request.offset)
        );
        if (got >= 0) return got;
        if (errno != EINTR) return -errno;
    }
}

} // namespace

void* ReaderThreads::run(void* argument) {
    auto& shared = *static_cast<Shared*>(argument);
    std::unique_lock lock(shared.mutex);
    ++shared.running;
    shared.started.notify_one();
    for (;; lock.lock()) {
        shared.wanted.wait(lock, [&] { return !shared.requests.empty(); });
        const ReadRequest request = shared.requests.front();
        shared.requests.pop_front();
        lock.unlock();
        const std::int64_t result = read_file(request);
        lock.lock();
        shared.ends.push_back({.token = request.token, .result = result});
        const bool first = shared.ends.size() == 1;
        lock.unlock();
        const std::uint64_t one = 1;
        // Cannot fail: the counter is taken back long before it is full.
        if (first) static_cast<void>(!::write(shared.event.get(), &one, sizeof one));
    }
    return nullptr;
}

Result<std::unique_ptr<ReaderThreads>> ReaderThreads::start() {
    constexpr std::size_t kStack = 64 << 10;
    auto shared = std::make_unique<Shared>();
    shared->event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!shared->event) return fail_errno(errno, "make an eventfd");
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, kStack);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int error = 0;
    for (unsigned i = 0; i < kThreads && error == 0; ++i) {
        pthread_t thread{};
        error = ::pthread_create(&thread, &attributes, &ReaderThreads::run, shared.get());
    }
    ::pthread_attr_destroy(&attributes);
    auto* leaked = shared.release(); // threads that were started use it for ever
    if (error != 0) return fail_errno(error, "start a reader thread");
    // A thread that is only just being made needs system calls that the filter will refuse.
    std::unique_lock lock(leaked->mutex);
    leaked->started.wait(lock, [&] { return leaked->running == kThreads; });
    return std::unique_ptr<ReaderThreads>(new ReaderThreads(leaked));
}

int ReaderThreads::fd() const {
    return shared_->event.get();
}

Result<> ReaderThreads::add(const ReadRequest& request) {
    {
        const std::lock_guard lock(shared_->mutex);
        if (shared_->requests.size() >= kMostRequests) return fail(EBUSY, "too many reads at once");
        shared_->requests.push_back(request);
    }
    shared_->wanted.notify_one();
    return {};
}

void ReaderThreads::take(std::vector<ReadEnd>& ends) {
    std::uint64_t count = 0;
    static_cast<void>(!::read(shared_->event.get(), &count, sizeof count));
    ends.clear();
    const std::lock_guard lock(shared_->mutex);
    ends.swap(shared_->ends);
}

} // namespace thaw::worker
