// SPDX-License-Identifier: MIT
#pragma once

// More 2 MiB pages for the time of a test, under a lock that all such tests share. The machine's
// pool is as it was afterwards, also when the test is killed: a process of its own waits for that.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>

namespace thaw::fakes {

class HugePages {
public:
    static constexpr const char* kPool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    static constexpr const char* kFree = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    static constexpr const char* kLock = "/run/lock/thaw-hugepages.lock";

    explicit HugePages(long wanted) {
        lock_ = ::open(kLock, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (lock_ < 0 || ::flock(lock_, LOCK_EX) != 0) {
            reason_ = "cannot lock the pool of huge pages";
            return;
        }
        const long before = read(kPool);
        if (before < 0 || !start_guard(before)) {
            reason_ = "cannot guard the pool of huge pages";
            return;
        }
        resize(before + wanted);
        if (read(kFree) < wanted) reason_ = "no memory for huge pages";
    }
    ~HugePages() {
        if (alive_ >= 0) ::close(alive_);
        if (guard_ > 0) ::waitpid(guard_, nullptr, 0);
        if (lock_ >= 0) ::close(lock_);
    }
    HugePages(const HugePages&) = delete;
    HugePages& operator=(const HugePages&) = delete;

    // Why there are none; empty when there are.
    const std::string& reason() const { return reason_; }

    static long size() { return read(kPool); }
    static void resize(long pages) { std::ofstream(kPool) << pages; }

private:
    static long read(const char* path) {
        long pages = -1;
        std::ifstream(path) >> pages;
        return pages;
    }
    // It shares the lock, waits for the end of the pipe (closed, or its writer died) and writes the
    // old size.
    bool start_guard(long before) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return false;
        guard_ = ::fork();
        if (guard_ == 0) {
            ::setsid();
            ::signal(SIGINT, SIG_IGN);
            ::signal(SIGTERM, SIG_IGN);
            ::close(ends[1]);
            char byte = 0;
            while (::read(ends[0], &byte, 1) > 0) {
            }
            const int pool = ::open(kPool, O_WRONLY | O_CLOEXEC);
            const std::string text = std::to_string(before);
            ::_exit(::write(pool, text.data(), text.size()) < 0 ? 1 : 0);
        }
        ::close(ends[0]);
        alive_ = ends[1];
        return guard_ > 0;
    }

    int lock_ = -1;
    int alive_ = -1;
    pid_t guard_ = -1;
    std::string reason_;
};

} // namespace thaw::fakes
