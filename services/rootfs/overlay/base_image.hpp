// SPDX-License-Identifier: MIT
#pragma once

// What lies below the overlay. Read-only; nobody changes it while an overlay is on it. Thread-safe.

#include "core/error.hpp"
#include "core/fd.hpp"
#include "protocol/rootfs_control.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace thaw::rootfs {

class BaseImage {
public:
    BaseImage() = default;
    BaseImage(const BaseImage&) = delete;
    BaseImage& operator=(const BaseImage&) = delete;
    virtual ~BaseImage() = default;

    virtual std::uint64_t size() const = 0; // bytes
    // Exactly out.size() bytes, all within size().
    virtual Result<> read(std::uint64_t offset, std::span<std::byte> out) = 0;
    // Bytes from `offset` on, at most `length`, that are all data or all a hole (zeros).
    struct Extent {
        std::uint64_t length = 0;
        bool hole = false;
    };
    virtual Extent extent(std::uint64_t offset, std::uint64_t length) = 0;
    // The same for the same content after a reboot; a durable overlay is bound to it.
    virtual std::uint64_t tag() const = 0;
    // What a tool is told that it is.
    virtual Result<protocol::BaseIdentity> identity() const = 0;
};

// A file or a block device, through the page cache that all VMs of it share.
class FileBase final : public BaseImage {
public:
    static Result<std::unique_ptr<FileBase>> open(const std::string& path);
    FileBase(Fd fd, std::uint64_t size, std::uint64_t tag)
        : fd_(std::move(fd)), size_(size), tag_(tag) {}

    std::uint64_t size() const override { return size_; }
    Result<> read(std::uint64_t offset, std::span<std::byte> out) override;
    Extent extent(std::uint64_t offset, std::uint64_t length) override;
    std::uint64_t tag() const override { return tag_; }
    Result<protocol::BaseIdentity> identity() const override;

private:
    Fd fd_;
    std::uint64_t size_;
    std::uint64_t tag_;
};

} // namespace thaw::rootfs
