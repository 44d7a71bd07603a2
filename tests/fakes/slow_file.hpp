// SPDX-License-Identifier: MIT
#pragma once

// A file whose reads are slow in a known way, or do not end until they are let go: a FUSE file
// system with one file, "disk", served by a child process.

#include "core/fd.hpp"

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace thaw::fakes {

// In memory that the server shares. Reads that begin in [first, end) wait while `closed`, and fail
// with EIO while `broken`.
struct Gate {
    std::atomic<std::uint64_t> first = 0;
    std::atomic<std::uint64_t> end = UINT64_MAX;
    std::atomic<bool> closed = false;
    std::atomic<bool> broken = false;
    std::atomic<std::uint32_t> waiting = 0; // reads that stand before it now
};

class SlowFile {
public:
    struct Setup {
        int backing = -1;   // what is in it; the server keeps a descriptor of its own
        std::string folder; // to mount on; exists
        std::uint64_t latency_ns = 0;
        double ns_per_byte = 0; // one after the other, latencies run side by side
        // Every read() is a request of its own, past the page cache and without read-ahead.
        bool direct = false;
    };
    // ENOTSUP when built without libfuse3, EPERM and the like where nothing can be mounted.
    static Result<SlowFile> serve(const Setup& setup);
    SlowFile(SlowFile&& other) noexcept;
    SlowFile& operator=(SlowFile&&) = delete;
    SlowFile(const SlowFile&) = delete;
    SlowFile& operator=(const SlowFile&) = delete;
    ~SlowFile(); // unmounts; reads that wait fail

    const std::string& path() const { return path_; }
    Gate& gate() const { return *gate_; }

private:
    SlowFile() = default;
    std::string folder_;
    std::string path_;
    Gate* gate_ = nullptr;
    pid_t server_ = -1;
};

} // namespace thaw::fakes
