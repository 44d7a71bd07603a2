// SPDX-License-Identifier: MIT
#include "working_set_loader.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <span>

namespace thaw::worker {

WorkingSetLoader::WorkingSetLoader(int fd, const image::WorkingSetOf& of, Reader reader)
    : fd_(fd), of_(of), reader_(std::move(reader)) {}

void WorkingSetLoader::finish(Result<image::WorkingSetTable> result) {
    result_ = std::move(result);
    reading_ = false;
    buffer_.reset();
}

void WorkingSetLoader::start() {
    struct stat status{};
    if (::fstat(fd_, &status) != 0) return finish(fail_errno(errno, "working-set: stat"));
    file_size_ = static_cast<std::uint64_t>(status.st_size);
    begin(image::kWorkingSetBlock);
}

void WorkingSetLoader::begin(std::uint64_t size) {
    buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(image::kWorkingSetBlock, size)));
    if (!buffer_) return finish(fail_errno(ENOMEM, "working-set: {} bytes", size));
    size_ = size;
    filled_ = 0;
    reading_ = true;
    request();
}

void WorkingSetLoader::request() {
    const auto begun = reader_({
        .token = kToken,
        .fd = fd_,
        .offset = filled_,
        .target = std::span(buffer_.get(), size_).subspan(filled_),
    });
    if (!begun) finish(fail_errno(begun.error().code(), "working-set: read"));
}

void WorkingSetLoader::read_ended(std::int64_t result) {
    if (result < 0 && result != -EINTR && result != -EAGAIN)
        return finish(fail_errno(static_cast<int>(-result), "working-set: read"));
    if (result == 0) return finish(fail(EBADMSG, "working-set: truncated"));
    filled_ += result > 0 ? static_cast<std::uint64_t>(result) : 0;
    if (filled_ < size_) return request();
    const std::span<const std::byte> bytes(buffer_.get(), size_);
    if (whole_) return finish(image::parse_working_set(bytes, of_, file_size_));
    auto size = image::working_set_table_size(bytes, of_, file_size_);
    if (!size) return finish(std::unexpected(std::move(size).error()));
    whole_ = true;
    begin(*size);
}

} // namespace thaw::worker
