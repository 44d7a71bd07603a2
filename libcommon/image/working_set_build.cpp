// SPDX-License-Identifier: MIT

#include "core/file.hpp"
#include "image/memory_map.hpp"
#include "image/memory_reader.hpp"
#include "image/working_set.hpp"

#include <xxhash.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

namespace thaw::image {

namespace {

// Turns sorted pages into runs of neighbours.
void add_runs(std::vector<WorkingSetRun>& runs, std::vector<std::uint32_t>& pages, bool zero) {
    std::ranges::sort(pages);
    const std::uint32_t mark = zero ? kZeroRun : 0;
    bool open = false;
    for (const std::uint32_t page : pages) {
        if (open && runs.back().first_page + runs.back().pages() == page) {
            ++runs.back().count;
            continue;
        }
        runs.push_back({.first_page = page, .count = 1 | mark});
        open = true;
    }
    pages.clear();
}

class Packer {
public:
    Packer(int out, const MemoryReader& memory, const MemoryMap& map, const AccessLog& log)
        : out_(out), memory_(memory), map_(map) {
        auto& header = table_.header;
        header.page_size = log.page_size;
        header.id = log.id;
        header.page_count = log.page_count;
        header.flags = log.settled ? kLogSettled : 0;
        header.map_checksum = map.checksum();
        step_ = log.page_size / kPageSize4K;
        header.segment_pages = step_ == 1 ? kSegmentPages : step_;
    }

    // Which pages go where; no data yet.
    void plan(const AccessLog& log) {
        for (const std::uint32_t page : log.pages) {
            const bool zero = is_zero(page);
            auto& pages = zero ? zeros_ : data_;
            for (std::uint32_t i = 0; i < step_; ++i)
                pages.push_back(page + i);
            // Data goes by whole segments, zeros before the data that was touched after them.
            const bool full = data_.size() == table_.header.segment_pages;
            if (full || zeros_.size() >= table_.header.segment_pages) flush_zeros();
            if (full) flush_data();
        }
        flush_zeros();
        flush_data();
        table_.header.run_count = table_.runs.size();
        const std::uint64_t segments =
            (table_.header.data_pages + table_.header.segment_pages - 1) /
            table_.header.segment_pages;
        table_.segments.resize(segments);
        const std::uint64_t end = sizeof(WorkingSetHeader) + std::span(table_.runs).size_bytes() +
                                  std::span(table_.segments).size_bytes();
        table_.header.data_offset = (end + kMapPageSize - 1) / kMapPageSize * kMapPageSize;
    }

    Result<> write_data() {
        std::vector<std::byte> segment;
        std::uint64_t index = 0;
        for (const WorkingSetRun& run : table_.runs) {
            if (run.is_zero()) continue;
            const std::size_t at = segment.size();
            segment.resize(at + run.pages() * kMapPageSize);
            THAW_CHECK(read_run(run, std::span(segment).subspan(at)));
            if (segment.size() == table_.header.segment_pages * kMapPageSize)
                THAW_CHECK(write_segment(segment, index++));
        }
        return segment.empty() ? Result<>() : write_segment(segment, index);
    }

    // Last, so that a file cut short is not taken for a whole one.
    Result<> write_table() {
        table_.header.checksum = working_set_checksum(table_);
        std::vector<std::byte> bytes(table_.header.data_offset);
        std::byte* at = bytes.data();
        const auto put = [&](const void* from, std::size_t size) {
            if (size != 0) std::memcpy(at, from, size);
            at += size;
        };
        put(&table_.header, sizeof table_.header);
        put(table_.runs.data(), std::span(table_.runs).size_bytes());
        put(table_.segments.data(), std::span(table_.segments).size_bytes());
        return write_at(bytes, 0);
    }

private:
    // A zero page of the mapping's size, so that a 2 MiB page is data as soon as it has any.
    bool is_zero(std::uint32_t page) const {
        return map_.is_zero(page) && map_.run_length(page, step_) == step_;
    }

    void flush_zeros() {
        table_.header.zero_pages += zeros_.size();
        add_runs(table_.runs, zeros_, true);
    }
    void flush_data() {
        table_.header.data_pages += data_.size();
        add_runs(table_.runs, data_, false);
    }

    Result<> read_run(const WorkingSetRun& run, std::span<std::byte> target) const {
        THAW_CHECK(memory_.read(target, run.first_page * kMapPageSize));
        for (std::uint32_t i = 0; i < run.pages(); ++i)
            if (hash_page(target.data() + i * kMapPageSize) != map_.page_hash(run.first_page + i))
                return fail(
                    EBADMSG, "page {} of the memory file is not what was sealed", run.first_page + i
                );
        return {};
    }
    Result<> write_segment(std::vector<std::byte>& segment, std::uint64_t index) {
        table_.segments[index] = XXH3_64bits(segment.data(), segment.size());
        const std::uint64_t size = table_.header.segment_pages * kMapPageSize;
        THAW_CHECK(write_at(segment, table_.header.data_offset + index * size));
        segment.clear();
        return {};
    }
    Result<> write_at(std::span<const std::byte> bytes, std::uint64_t offset) const {
        while (!bytes.empty()) {
            const ssize_t put =
                ::pwrite(out_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
            if (put < 0 && errno == EINTR) continue;
            if (put < 0) return fail_errno(errno, "write the working set");
            bytes = bytes.subspan(static_cast<std::size_t>(put));
            offset += static_cast<std::uint64_t>(put);
        }
        return {};
    }

    int out_;
    const MemoryReader& memory_;
    const MemoryMap& map_;
    WorkingSetTable table_;
    std::uint32_t step_ = 1;
    std::vector<std::uint32_t> data_;
    std::vector<std::uint32_t> zeros_;
};

} // namespace

Result<>
write_working_set(int out, const AccessLog& log, const MemoryReader& memory, const MemoryMap& map) {
    if (log.pages.empty()) return fail(EINVAL, "the access log is empty");
    if (log.page_count != map.page_count())
        return fail(EINVAL, "the access log is not of this image");
    Packer packer(out, memory, map, log);
    packer.plan(log);
    THAW_CHECK(packer.write_data());
    return packer.write_table();
}

} // namespace thaw::image
