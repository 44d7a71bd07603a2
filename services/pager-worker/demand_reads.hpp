// SPDX-License-Identifier: MIT
#pragma once

// Faults whose bytes have to be waited for: read beside everything else, several at once, so that a
// slow source never holds up a fault whose bytes are at hand.

#include "fault_engine.hpp"
#include "fault_queue.hpp"
#include "page_source.hpp"

#include <cstddef>
#include <deque>
#include <expected>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace thaw::worker {

class DemandReads {
public:
    // Token of a request: an index, without class.
    using Reader = std::function<Result<>(const ReadRequest&)>;
    // 4 KiB pages: 32 reads at once; 2 MiB: 4. Buffers are touched when they are used.
    static Result<DemandReads> create(std::uint64_t largest_page);
    DemandReads(DemandReads&& other) noexcept;
    DemandReads& operator=(DemandReads&&) = delete;
    DemandReads(const DemandReads&) = delete;
    DemandReads& operator=(const DemandReads&) = delete;
    ~DemandReads();
    // Before the first add(). `source` outlives this.
    void connect(PageSource& source, Reader reader) {
        source_ = &source;
        reader_ = std::move(reader);
    }

    // Begins to read the fault's page, or queues it until a buffer is free. A page that is being
    // read already needs no second one: whoever installs it wakes everybody.
    void add(const Fault& fault);

    struct Finished {
        std::size_t index = 0;
        Fault fault;
        std::expected<std::span<const std::byte>, SourceError> bytes;
    };
    // nullopt: it goes on. The bytes are good until release().
    std::optional<Finished> read_ended(std::uint64_t token, std::int64_t result);
    // Faults whose read could not even begin.
    std::optional<Finished> take_failed();
    void release(std::size_t index);

    std::size_t count() const { return active_ + waiting_.size(); }
    // Smallest taken_ns, 0 when empty.
    std::uint64_t oldest() const;

private:
    struct Slot {
        bool used = false;
        bool reads_list = false;
        Fault fault;
        std::uint64_t filled = 0;
        image::MapReader::ListPlace list;
    };
    DemandReads() = default;
    std::span<std::byte> page_of(std::size_t index) const;
    std::span<std::byte> list_of(std::size_t index) const;
    void start(std::size_t index, const Fault& fault);
    void request_page(std::size_t index);
    void request(std::size_t index, int fd, std::uint64_t offset, std::span<std::byte> target);
    std::optional<Finished> verify(std::size_t index);
    Finished failed(std::size_t index, SourceError why);

    PageSource* source_ = nullptr;
    Reader reader_;
    std::uint64_t page_size_ = 0; // of a buffer
    std::byte* memory_ = nullptr; // per slot a page and a list
    std::vector<Slot> slots_;
    std::size_t active_ = 0;
    std::deque<Fault> waiting_;
    std::deque<std::pair<std::size_t, SourceError>> broken_; // requests that were refused
};

} // namespace thaw::worker
