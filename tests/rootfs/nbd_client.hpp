// SPDX-License-Identifier: MIT
#pragma once

// One connection of blocks. Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

struct nbd_handle;

namespace thaw::rootfs::test {

class NbdClient {
public:
    explicit NbdClient(const std::string& socket); // a failure is a failed expectation
    NbdClient(const NbdClient&) = delete;
    NbdClient& operator=(const NbdClient&) = delete;
    ~NbdClient();

    nbd_handle* get() const { return nbd_; }
    // 0, or the errno that the server (or the lack of one) gave.
    int read(std::uint64_t offset, std::span<std::byte> out);
    int write(std::uint64_t offset, std::span<const std::byte> data, bool fua = false);
    int flush();
    int zero(std::uint64_t offset, std::uint64_t length);
    int trim(std::uint64_t offset, std::uint64_t length);
    struct Extent {
        std::uint32_t length;
        std::uint32_t flags;
        bool operator==(const Extent&) const = default;
    };
    std::vector<Extent> extents(std::uint64_t offset, std::uint64_t length);

private:
    nbd_handle* nbd_;
};

} // namespace thaw::rootfs::test
