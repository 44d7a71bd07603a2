// SPDX-License-Identifier: MIT
#pragma once

// A file that the overlay keeps blocks or its journal in. What was written is safe from a loss of
// power only after sync(). An interface, so that tests lose power at every point of it.

#include "core/error.hpp"
#include "core/fd.hpp"
#include "overlay/geometry.hpp"

#include <memory>
#include <string>

namespace thaw::rootfs {

// Thread-safe, as pread() and pwrite() are.
class StableFile {
public:
    StableFile() = default;
    StableFile(const StableFile&) = delete;
    StableFile& operator=(const StableFile&) = delete;
    virtual ~StableFile() = default;

    // Exactly out.size() bytes; EIO beyond the end.
    virtual Result<> read(std::uint64_t offset, std::span<std::byte> out) = 0;
    virtual Result<> write(std::uint64_t offset, std::span<const std::byte> data) = 0;
    virtual Result<> sync() = 0;
    // Room on the disk for bytes up to `length`, which becomes the size if it is larger. ENOSPC.
    virtual Result<> reserve(std::uint64_t length) = 0;
    // Gives the room back where the file system can; the range then reads as zeros or what it was.
    virtual void punch(std::uint64_t offset, std::uint64_t length) = 0;
    virtual Result<std::uint64_t> size() = 0;
    // For descriptors handed on; -1 when there is none.
    virtual int descriptor() const { return -1; }
};

// Whole blocks past the page cache: nothing that could be throttled, nothing that could be written
// back late. Buffers may lie anywhere, reads may be of any range.
class DirectFile final : public StableFile {
public:
    // An unnamed file in `directory`, gone with the process. EINVAL, EOPNOTSUPP: the file system
    // there has no O_DIRECT or no unnamed files.
    static Result<std::unique_ptr<DirectFile>> temporary(const std::string& directory);
    // Opened or made with mode 0600, and locked: EBUSY when another process has it.
    static Result<std::unique_ptr<DirectFile>> named(const std::string& path);
    explicit DirectFile(Fd fd) : fd_(std::move(fd)) {}

    Result<> read(std::uint64_t offset, std::span<std::byte> out) override;
    Result<> write(std::uint64_t offset, std::span<const std::byte> data) override;
    Result<> sync() override;
    Result<> reserve(std::uint64_t length) override;
    void punch(std::uint64_t offset, std::uint64_t length) override;
    Result<std::uint64_t> size() override;
    int descriptor() const override { return fd_.get(); }

private:
    Fd fd_;
};

// Through the page cache, for what is small and soon synced.
class CachedFile final : public StableFile {
public:
    static Result<std::unique_ptr<CachedFile>> named(const std::string& path);
    explicit CachedFile(Fd fd) : fd_(std::move(fd)) {}

    Result<> read(std::uint64_t offset, std::span<std::byte> out) override;
    Result<> write(std::uint64_t offset, std::span<const std::byte> data) override;
    Result<> sync() override;
    Result<> reserve(std::uint64_t length) override;
    void punch(std::uint64_t offset, std::uint64_t length) override;
    Result<std::uint64_t> size() override;
    int descriptor() const override { return fd_.get(); }

private:
    Fd fd_;
};

// Blocks of memory that O_DIRECT takes.
class AlignedBuffer {
public:
    explicit AlignedBuffer(std::size_t size); // throws std::bad_alloc
    std::span<std::byte> span() const { return {data_.get(), size_}; }

private:
    struct Free {
        void operator()(std::byte* data) const noexcept;
    };
    std::unique_ptr<std::byte[], Free> data_;
    std::size_t size_;
};
// This thread's own, of kBounceSize bytes; content as the last user left it.
inline constexpr std::size_t kBounceSize = std::size_t{1} << 20;
std::span<std::byte> bounce_buffer();

// pwrite() of all of it, with an errno where memory or disk give out.
Result<> write_exact(int fd, std::span<const std::byte> data, std::uint64_t offset);

} // namespace thaw::rootfs
