// SPDX-License-Identifier: MIT
#include "bulk_mover.hpp"

#include <algorithm>
#include <cerrno>

namespace thaw::worker {

using protocol::FailureReason;

BulkMover::BulkMover(Feed& feed, std::span<std::byte> buffers, PageSource& source, Reader reader)
    : feed_(feed), source_(source), reader_(std::move(reader)) {
    const std::size_t size = buffers.size() / kBuffers;
    for (std::size_t i = 0; i < kBuffers; ++i) {
        Buffer buffer;
        buffer.memory = buffers.subspan(i * size, size);
        buffers_.push_back(std::move(buffer));
    }
}

BulkMover::Buffer* BulkMover::free_buffer() {
    const auto found = std::ranges::find(buffers_, State::Free, &Buffer::state);
    return found == buffers_.end() ? nullptr : &*found;
}

BulkMover::Buffer* BulkMover::earliest() {
    Buffer* first = nullptr;
    for (Buffer& buffer : buffers_)
        if (buffer.state == State::Ready && (first == nullptr || buffer.number < first->number))
            first = &buffer;
    return first;
}

bool BulkMover::is_ready() const {
    if (unread_ && unread_->kind != Piece::Kind::File) return true;
    return std::ranges::find(buffers_, State::Ready, &Buffer::state) != buffers_.end();
}

bool BulkMover::is_reading() const {
    return std::ranges::any_of(buffers_, [](const Buffer& buffer) {
        return buffer.state == State::Reading || buffer.state == State::ReadingList;
    });
}

void BulkMover::pump() {
    for (;;) {
        if (!unread_ && !exhausted_) {
            unread_ = feed_.next();
            unread_cursor_ = 0;
            exhausted_ = !unread_;
        }
        if (!unread_ || unread_->kind != Piece::Kind::File) return;
        Buffer* buffer = free_buffer();
        if (buffer == nullptr) return;
        buffer->piece = *unread_;
        buffer->filled = 0;
        buffer->cursor = 0;
        buffer->number = ++numbers_;
        buffer->state = State::Reading;
        ++active_;
        unread_.reset();
        request(static_cast<std::size_t>(buffer - buffers_.data()));
    }
}

void BulkMover::request(std::size_t index) {
    Buffer& buffer = buffers_[index];
    THAW_INVARIANT(buffer.piece.length <= buffer.memory.size());
    const auto rest = buffer.memory.first(buffer.piece.length).subspan(buffer.filled);
    const std::uint64_t offset = buffer.piece.offset + buffer.filled;
    PageSource::Place place{buffer.piece.fd, rest.size()};
    if (place.fd < 0) place = source_.place(offset, rest.size());
    const auto begun = reader_({
        .token = index,
        .fd = place.fd,
        .offset = offset,
        .target = rest.first(place.length),
    });
    if (!begun) drop(buffer, SourceError{FailureReason::SourceRead, begun.error().code()});
}

void BulkMover::request_list(std::size_t index, const image::MapReader::ListPlace& place) {
    Buffer& buffer = buffers_[index];
    buffer.state = State::ReadingList;
    buffer.list = place;
    buffer.list_bytes.resize(place.size);
    const auto begun = reader_({
        .token = index,
        .fd = source_.map_fd(),
        .offset = place.offset,
        .target = buffer.list_bytes,
    });
    if (!begun) drop(buffer, SourceError{FailureReason::MapDamaged, begun.error().code()});
}

void BulkMover::drop(Buffer& buffer, std::optional<SourceError> why) {
    buffer.state = State::Free;
    --active_;
    if (why) error_ = why;
}

void BulkMover::verify(std::size_t index) {
    Buffer& buffer = buffers_[index];
    std::optional<image::MapReader::ListPlace> missing;
    const auto bytes = buffer.memory.first(buffer.piece.length);
    if (const auto error = feed_.check(buffer.piece, bytes, missing)) return drop(buffer, error);
    if (missing) return request_list(index, *missing);
    buffer.state = State::Ready;
}

void BulkMover::read_ended(std::uint64_t token, std::int64_t result) {
    Buffer& buffer = buffers_.at(token);
    if (buffer.state == State::ReadingList) {
        if (result != static_cast<std::int64_t>(buffer.list.size))
            return drop(
                buffer,
                SourceError{FailureReason::MapDamaged, result < 0 ? static_cast<int>(-result) : EIO}
            );
        source_.count_read(buffer.list.size);
        if (const auto error = source_.add_list(buffer.list, buffer.list_bytes))
            return drop(buffer, error);
        return verify(token);
    }
    if (result < 0 && result != -EINTR && result != -EAGAIN)
        return drop(buffer, SourceError{FailureReason::SourceRead, static_cast<int>(-result)});
    if (result == 0) return drop(buffer, SourceError{FailureReason::SourceTruncated, ENODATA});
    buffer.filled += result > 0 ? static_cast<std::uint64_t>(result) : 0;
    source_.count_read(result > 0 ? static_cast<std::uint64_t>(result) : 0);
    if (buffer.filled < buffer.piece.length) return request(token);
    verify(token);
}

Feed::Step BulkMover::install_some(std::uint64_t pages) {
    Feed::Step made;
    if (Buffer* buffer = earliest(); buffer != nullptr) {
        made = feed_.install(buffer->piece, buffer->memory.data(), buffer->cursor, pages);
        if (made.finished) drop(*buffer, std::nullopt);
    } else if (unread_ && unread_->kind != Piece::Kind::File) {
        made = feed_.install(*unread_, nullptr, unread_cursor_, pages);
        if (made.finished) unread_.reset();
    }
    return made;
}

// Pieces may be as small as a page, a step is not.
BulkMover::Step BulkMover::step() {
    // What an ioctl costs beside its pages, and what a page of zeros does, in pages.
    constexpr std::uint64_t kCall = 1;
    constexpr std::uint64_t kZeros = 10;
    Step all;
    for (std::uint64_t spent = 0; spent < kStepPages && is_ready();) {
        const bool zeros = earliest() == nullptr && unread_ && unread_->kind == Piece::Kind::Zero;
        const Feed::Step made = install_some(kStepPages - spent);
        all.pages += made.result.pages;
        all.outcome = made.result.outcome;
        all.errno_value = made.result.errno_value;
        if (made.result.outcome != FillOutcome::Done) break;
        spent += (zeros ? made.result.pages / kZeros : made.result.pages) + kCall;
        if (!unread_) pump();
    }
    return all;
}

} // namespace thaw::worker
