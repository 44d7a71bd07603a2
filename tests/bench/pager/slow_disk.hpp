// SPDX-License-Identifier: MIT
#pragma once

// A disk that is slow in a known way: a loop device with direct I/O over a file on FUSE that adds
// 100 us and 500 MB/s to each read. ext4 on it holds a copy of an image.

#include "core/error.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace thaw::bench {

class SlowDisk {
public:
    // Copies the files of `source`. ENOTSUP when built without libfuse3; everything is gone with
    // the object. `scratch`: a folder on a real disk.
    static Result<std::unique_ptr<SlowDisk>>
    create(const std::string& scratch, const std::string& source, std::uint64_t bytes);
    SlowDisk(const SlowDisk&) = delete;
    SlowDisk& operator=(const SlowDisk&) = delete;
    ~SlowDisk();

    const std::string& folder() const; // where the copy is mounted
    // Drops what the page cache has of the copy and of the device.
    void forget();
    // Its own speed: random 4 KiB reads and a sequential one, in MB/s and microseconds.
    nlohmann::json figures();

private:
    struct Parts;
    explicit SlowDisk(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

} // namespace thaw::bench
