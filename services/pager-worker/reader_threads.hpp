// SPDX-License-Identifier: MIT
#pragma once

// File reads beside the epoll loop: a few threads that take requests, pread() and report through an
// eventfd. They touch neither the userfaultfd nor the session; who asked looks at the bytes.
//
// Started before the system call filter, which forbids new threads, and never ended before the
// process: they hold nothing that needs an orderly end.

#include "core/fd.hpp"
#include "fault_engine.hpp"

#include <memory>
#include <vector>

namespace thaw::worker {

class ReaderThreads {
public:
    static constexpr unsigned kThreads = 4;
    static constexpr std::size_t kMostRequests = 128;

    static Result<std::unique_ptr<ReaderThreads>> start();
    ~ReaderThreads() = default;
    ReaderThreads(const ReaderThreads&) = delete;
    ReaderThreads& operator=(const ReaderThreads&) = delete;

    // Readable while take() has something.
    int fd() const;
    Result<> add(const ReadRequest& request);
    // Replaces `ends` by those that ended since the last call.
    void take(std::vector<ReadEnd>& ends);

private:
    struct Shared;
    explicit ReaderThreads(Shared* shared) : shared_(shared) {}
    static void* run(void* shared);

    Shared* shared_; // leaked with its threads at the end of the process
};

} // namespace thaw::worker
