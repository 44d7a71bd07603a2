// SPDX-License-Identifier: MIT
#pragma once

// Moves the pieces of a feed into the VMM: a few reads in flight, installs in steps small enough
// that a fault never waits long. It decides nothing about when: Background calls it.

#include "fault_engine.hpp"
#include "feed.hpp"

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace thaw::worker {

class BulkMover {
public:
    static constexpr std::uint64_t kBufferSize = 256 << 10;
    static constexpr std::size_t kBuffers = 4;
    static constexpr std::uint64_t kStepPages = 32; // 128 KiB of data, some 50 to 100 us

    // `buffers` is cut into kBuffers; it and the feed live until is_reading() is false.
    using Reader = std::function<Result<>(const ReadRequest&)>;
    BulkMover(Feed& feed, std::span<std::byte> buffers, PageSource& source, Reader reader);

    // Begins reads while buffers are free.
    void pump();
    // `token` as in the request, without its class.
    void read_ended(std::uint64_t token, std::int64_t result);

    // One step. Bytes of memory it is through with.
    struct Step {
        std::uint64_t pages = 0;
        FillOutcome outcome = FillOutcome::Done;
        int errno_value = 0;
    };
    Step step();
    // Something can be installed without waiting for a read.
    bool is_ready() const;
    bool is_reading() const;
    // Nothing is left, read or to be read.
    bool is_done() const { return exhausted_ && active_ == 0 && !unread_; }
    // Bytes that could not be read or are not what was sealed; their piece was left out.
    const std::optional<SourceError>& error() const { return error_; }

private:
    enum class State { Free, Reading, ReadingList, Ready };
    struct Buffer {
        State state = State::Free;
        Piece piece;
        std::span<std::byte> memory;
        std::uint64_t filled = 0;
        std::uint64_t cursor = 0;
        std::uint64_t number = 0; // order of the pieces
        image::MapReader::ListPlace list;
        std::vector<std::byte> list_bytes;
    };
    void request(std::size_t index);
    void request_list(std::size_t index, const image::MapReader::ListPlace& place);
    void verify(std::size_t index);
    void drop(Buffer& buffer, std::optional<SourceError> why);
    Feed::Step install_some(std::uint64_t pages);
    Buffer* earliest();
    Buffer* free_buffer();

    Feed& feed_;
    PageSource& source_;
    Reader reader_;
    std::vector<Buffer> buffers_;
    std::optional<Piece> unread_; // the next piece, when it needs no buffer or finds none
    std::uint64_t unread_cursor_ = 0;
    std::uint64_t numbers_ = 0;
    std::size_t active_ = 0;
    bool exhausted_ = false;
    std::optional<SourceError> error_;
};

} // namespace thaw::worker
