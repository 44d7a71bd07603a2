// SPDX-License-Identifier: MIT
#include "target_writer.hpp"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace thaw::fetchd {

// A block and what libcurl may hand over at once on top of it.
struct TargetWriter::Block {
    static constexpr std::size_t kCapacity = 2 * kBlock;
    struct Free {
        void operator()(std::byte* data) const noexcept { std::free(data); }
    };

    Block() : data(static_cast<std::byte*>(std::aligned_alloc(kUnit, kCapacity))) {
        if (!data) throw std::bad_alloc();
    }
    std::span<const std::byte> bytes() const { return {data.get(), size}; }

    std::unique_ptr<std::byte, Free> data;
    std::size_t size = 0;
};

namespace {

// 0, or the errno of what went wrong.
int write_whole(int fd, std::span<const std::byte> data, std::uint64_t offset) {
    while (!data.empty()) {
        const auto n = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return EIO;
        data = data.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return 0;
}

} // namespace

TargetWriter::TargetWriter(Worker& thread, Fd target, std::uint64_t offset, Events events)
    : thread_(thread), target_(std::make_shared<Fd>(std::move(target))), offset_(offset),
      events_(std::move(events)), filling_(std::make_shared<Block>()) {}

TargetWriter::~TargetWriter() {
    THAW_INVARIANT(!writing_);
}

bool TargetWriter::take(std::span<const std::byte> data) {
    if (dead_) return true; // the failure is on its way
    // More than fits at all cannot come: the transfer's buffer is smaller than a block.
    THAW_INVARIANT(data.size() <= kBlock);
    if (filling_->size + data.size() > Block::kCapacity) {
        wants_room_ = true;
        return false;
    }
    std::memcpy(filling_->data.get() + filling_->size, data.data(), data.size());
    filling_->size += data.size();
    received_ += data.size();
    start_write();
    return true;
}

void TargetWriter::finish() {
    finished_ = true;
    start_write();
}

void TargetWriter::give_up() {
    dead_ = true;
}

void TargetWriter::start_write() {
    if (writing_ || dead_) return;
    std::size_t size = std::min(filling_->size, kBlock);
    // The rest of an unfinished unit waits for its end, so that every write starts on a unit.
    if (!(finished_ && size == filling_->size)) size -= size % kUnit;
    if (size == 0) return;
    auto block = std::exchange(filling_, std::make_shared<Block>());
    const auto rest = block->bytes().subspan(size);
    std::memcpy(filling_->data.get(), rest.data(), rest.size());
    filling_->size = rest.size();
    writing_ = true;
    thread_.run<int>(
        [target = target_, block, size, offset = offset_ + written_] {
            return write_whole(target->get(), block->bytes().first(size), offset);
        },
        [this, size](int errno_value) { on_written(size, errno_value); }
    );
}

void TargetWriter::on_written(std::size_t size, int errno_value) {
    writing_ = false;
    if (errno_value != 0) {
        dead_ = true;
        events_.failed(
            {FetchError::Target, errno_value, false,
             "write what was fetched: " + errno_text(errno_value)}
        );
        return;
    }
    written_ += size;
    start_write();
    if (std::exchange(wants_room_, false)) events_.room();
    events_.written(written_);
}

} // namespace thaw::fetchd
