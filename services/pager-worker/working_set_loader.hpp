// SPDX-License-Identifier: MIT
#pragma once

// Reads the table of a working set beside everything else: the disk it is on may be slow, and the
// guest's faults must not wait for what is only meant to spare it some.

#include "fault_engine.hpp"
#include "image/working_set.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>

namespace thaw::worker {

class WorkingSetLoader {
public:
    // Of each of its requests; BulkMover's are smaller.
    static constexpr std::uint64_t kToken = 1 << 16;

    // `fd` is the caller's and may be O_DIRECT. Lives while is_reading().
    using Reader = std::function<Result<>(const ReadRequest&)>;
    WorkingSetLoader(int fd, const image::WorkingSetOf& of, Reader reader);

    void start();
    void read_ended(std::int64_t result);
    bool is_reading() const { return reading_; }
    // Once it is not reading: the table, or why there is none (errors of load_working_set()).
    Result<image::WorkingSetTable> take() { return std::move(result_); }

private:
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    void begin(std::uint64_t size);
    void request();
    void finish(Result<image::WorkingSetTable> result);

    int fd_;
    image::WorkingSetOf of_;
    Reader reader_;
    std::uint64_t file_size_ = 0;
    std::unique_ptr<std::byte, Free> buffer_;
    std::uint64_t size_ = 0; // of buffer_
    std::uint64_t filled_ = 0;
    bool whole_ = false; // what is read now is all of the table, not its first block
    bool reading_ = false;
    Result<image::WorkingSetTable> result_;
};

} // namespace thaw::worker
