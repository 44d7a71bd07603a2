// SPDX-License-Identifier: MIT

// Reading a working-set file; apart from its making because the pager's workers need only this.

#include "image/working_set.hpp"

#include "image/checksum.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

namespace thaw::image {

namespace {

constexpr std::uint64_t kMaxWorkingSetPages = std::uint64_t{1} << 32;

using Block = std::unique_ptr<std::byte, decltype(&std::free)>;

Result<Block> read_block(int fd, std::uint64_t size) {
    Block block(static_cast<std::byte*>(std::aligned_alloc(kWorkingSetBlock, size)), &std::free);
    if (!block) return fail_errno(ENOMEM, "working-set: {} bytes", size);
    for (std::uint64_t done = 0; done < size;) {
        const ssize_t got = ::pread(fd, block.get() + done, size - done, static_cast<off_t>(done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, "working-set: read");
        if (got == 0) return fail(EBADMSG, "working-set: truncated");
        done += static_cast<std::uint64_t>(got);
    }
    return block;
}

std::uint64_t table_end(const WorkingSetHeader& header, std::uint64_t segments) {
    const std::uint64_t end =
        sizeof header + header.run_count * sizeof(WorkingSetRun) + segments * sizeof(std::uint64_t);
    return (end + kWorkingSetBlock - 1) / kWorkingSetBlock * kWorkingSetBlock;
}

std::uint64_t segments_of(const WorkingSetHeader& header) {
    return (header.data_pages + header.segment_pages - 1) / header.segment_pages;
}

Result<> check_header(
    const WorkingSetHeader& header, const ImageId& expected, std::uint64_t pages,
    std::uint64_t file_size
) {
    if (header.magic != kWorkingSetMagic) return fail(EBADMSG, "working-set: not a working set");
    if (header.version != kWorkingSetVersion)
        return fail(EPROTONOSUPPORT, "working-set: version {} is unknown", header.version);
    if (header.id != expected) return fail(ESTALE, "working-set: belongs to another image");
    if (header.page_count != pages || pages == 0 || pages > kMaxWorkingSetPages)
        return fail(ERANGE, "working-set: for a memory of {} pages", header.page_count);
    const bool huge = header.page_size == kPageSize2M;
    if ((!huge && header.page_size != kPageSize4K) ||
        header.segment_pages != (huge ? kPageSize2M / kPageSize4K : kSegmentPages))
        return fail(EBADMSG, "working-set: page size {} is unknown", header.page_size);
    if (header.data_pages > pages || header.zero_pages > pages - header.data_pages ||
        header.run_count > header.data_pages + header.zero_pages)
        return fail(EBADMSG, "working-set: its counts do not fit");
    if (header.data_offset != table_end(header, segments_of(header)) ||
        file_size != header.data_offset + header.data_pages * kPageSize4K)
        return fail(EBADMSG, "working-set: {} bytes do not fit its header", file_size);
    return {};
}

// Every run inside the memory, none twice, none across a segment.
Result<> check_runs(const WorkingSetTable& table) {
    const auto& header = table.header;
    const std::uint64_t step = header.page_size / kPageSize4K;
    std::vector<bool> seen(header.page_count);
    std::uint64_t data = 0;
    std::uint64_t zero = 0;
    for (const WorkingSetRun& run : table.runs) {
        const std::uint64_t count = run.pages();
        if (run.first_page >= header.page_count || count > header.page_count - run.first_page)
            return fail(ERANGE, "working-set: page {} is beyond the memory", run.first_page);
        if (count == 0 || count % step != 0 || run.first_page % step != 0 ||
            count > header.segment_pages)
            return fail(EBADMSG, "working-set: a run of {} pages", count);
        if (!run.is_zero() && data % header.segment_pages + count > header.segment_pages)
            return fail(EBADMSG, "working-set: a run crosses a segment");
        (run.is_zero() ? zero : data) += count;
        for (std::uint64_t page = run.first_page; page < run.first_page + count; ++page) {
            if (seen[page]) return fail(EBADMSG, "working-set: page {} is named twice", page);
            seen[page] = true;
        }
    }
    if (data != header.data_pages || zero != header.zero_pages)
        return fail(EBADMSG, "working-set: its runs do not add up");
    return {};
}

} // namespace

std::uint64_t working_set_checksum(const WorkingSetTable& table) {
    WorkingSetHeader header = table.header;
    header.checksum = 0;
    return checksum_of_parts(
        {std::as_bytes(std::span(&header, 1)), std::as_bytes(std::span(table.runs)),
         std::as_bytes(std::span(table.segments))}
    );
}

Result<std::uint64_t> working_set_table_size(
    std::span<const std::byte> first_block, const WorkingSetOf& of, std::uint64_t file_size
) {
    if (file_size < kWorkingSetBlock || first_block.size() < kWorkingSetBlock)
        return fail(EBADMSG, "working-set: truncated");
    WorkingSetHeader header;
    std::memcpy(&header, first_block.data(), sizeof header);
    THAW_CHECK(check_header(header, of.id, of.page_count, file_size));
    return header.data_offset;
}

Result<WorkingSetTable> parse_working_set(
    std::span<const std::byte> bytes, const WorkingSetOf& of, std::uint64_t file_size
) {
    THAW_TRY(const std::uint64_t size, working_set_table_size(bytes, of, file_size));
    if (bytes.size() < size) return fail(EBADMSG, "working-set: changed while it was read");
    WorkingSetTable table;
    const auto take = [&bytes](std::span<std::byte> part) { // may be empty, which memcpy() may not
        std::ranges::copy(bytes.first(part.size()), part.begin());
        bytes = bytes.subspan(part.size());
    };
    take(std::as_writable_bytes(std::span(&table.header, 1)));
    table.runs.resize(table.header.run_count);
    take(std::as_writable_bytes(std::span(table.runs)));
    table.segments.resize(segments_of(table.header));
    take(std::as_writable_bytes(std::span(table.segments)));
    if (working_set_checksum(table) != table.header.checksum)
        return fail(EBADMSG, "working-set: damaged (checksum mismatch)");
    THAW_CHECK(check_runs(table));
    return table;
}

Result<WorkingSetTable>
load_working_set(int fd, const ImageId& expected, std::uint64_t page_count) {
    struct stat status{};
    if (::fstat(fd, &status) < 0) return fail_errno(errno, "working-set: stat");
    const auto file_size = static_cast<std::uint64_t>(status.st_size);
    if (file_size < kWorkingSetBlock) return fail(EBADMSG, "working-set: truncated");
    const WorkingSetOf of{.id = expected, .page_count = page_count};
    THAW_TRY(const Block first, read_block(fd, kWorkingSetBlock));
    THAW_TRY(
        const std::uint64_t size,
        working_set_table_size(std::span(first.get(), kWorkingSetBlock), of, file_size)
    );
    THAW_TRY(const Block all, read_block(fd, size));
    return parse_working_set(std::span(all.get(), size), of, file_size);
}

} // namespace thaw::image
