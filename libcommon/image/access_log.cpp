// SPDX-License-Identifier: MIT

#include "image/access_log.hpp"

#include "core/file.hpp"
#include "image/checksum.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

namespace thaw::image {

namespace {

constexpr std::uint64_t kMaxLoggedPages = std::uint64_t{1} << 32; // an entry has 32 bits

std::uint64_t checksum_of(std::span<const std::byte> file) {
    AccessLogHeader header;
    std::memcpy(&header, file.data(), sizeof header);
    header.checksum = 0;
    return checksum_of_parts({std::as_bytes(std::span(&header, 1)), file.subspan(sizeof header)});
}

Result<> check_header(const AccessLogHeader& header, const ImageId& expected, std::uint64_t pages) {
    if (header.magic != kAccessLogMagic) return fail(EBADMSG, "access.log: not an access log");
    if (header.version != kAccessLogVersion)
        return fail(EPROTONOSUPPORT, "access.log: version {} is unknown", header.version);
    if (header.id != expected) return fail(ESTALE, "access.log: belongs to another image");
    if (header.page_size != kPageSize4K && header.page_size != kPageSize2M)
        return fail(EBADMSG, "access.log: page size {} is unknown", header.page_size);
    if (header.page_count != pages || pages == 0 || pages > kMaxLoggedPages)
        return fail(ERANGE, "access.log: for a memory of {} pages", header.page_count);
    if (header.entry_count > header.page_count)
        return fail(EBADMSG, "access.log: more entries than pages");
    return {};
}

// Each page once, inside the image, at the beginning of a page of its size.
Result<> check_pages(const AccessLog& log) {
    const std::uint32_t step = log.page_size / kPageSize4K;
    std::vector<bool> seen(log.page_count);
    for (const std::uint32_t page : log.pages) {
        if (page >= log.page_count)
            return fail(ERANGE, "access.log: page {} is beyond the memory", page);
        if (page % step != 0) return fail(EBADMSG, "access.log: page {} is not aligned", page);
        if (seen[page]) return fail(EBADMSG, "access.log: page {} is named twice", page);
        seen[page] = true;
    }
    return {};
}

} // namespace

std::vector<std::byte> encode_access_log(const AccessLog& log) {
    AccessLogHeader header;
    header.page_size = log.page_size;
    header.id = log.id;
    header.page_count = log.page_count;
    header.entry_count = log.pages.size();
    header.flags = log.settled ? kLogSettled : 0;
    header.recordings = log.recordings;
    const auto entries = std::as_bytes(std::span(log.pages));
    std::vector<std::byte> file(sizeof header + entries.size());
    std::memcpy(file.data(), &header, sizeof header);
    std::ranges::copy(entries, file.begin() + sizeof header);
    header.checksum = checksum_of(file);
    std::memcpy(file.data(), &header, sizeof header);
    return file;
}

Result<AccessLog> load_access_log(int fd, const ImageId& expected, std::uint64_t page_count) {
    struct stat status{};
    if (::fstat(fd, &status) < 0) return fail_errno(errno, "access.log: stat");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    AccessLogHeader header;
    if (size < sizeof header) return fail(EBADMSG, "access.log: truncated");
    THAW_CHECK(pread_exact(fd, std::as_writable_bytes(std::span(&header, 1)), 0));
    THAW_CHECK(check_header(header, expected, page_count));
    if (size != sizeof header + header.entry_count * sizeof(std::uint32_t))
        return fail(EBADMSG, "access.log: {} bytes do not fit its header", size);
    std::vector<std::byte> file(size);
    THAW_CHECK(pread_exact(fd, file, 0));
    // The file may have changed between the two reads.
    if (std::memcmp(file.data(), &header, sizeof header) != 0)
        return fail(EBADMSG, "access.log: changed while it was read");
    if (checksum_of(file) != header.checksum)
        return fail(EBADMSG, "access.log: damaged (checksum mismatch)");
    AccessLog log{
        .id = header.id,
        .page_size = header.page_size,
        .page_count = header.page_count,
        .settled = (header.flags & kLogSettled) != 0,
        .recordings = header.recordings,
        .pages = std::vector<std::uint32_t>(header.entry_count),
    };
    const auto entries = std::span(file).subspan(sizeof header);
    std::ranges::copy(entries, std::as_writable_bytes(std::span(log.pages)).begin());
    THAW_CHECK(check_pages(log));
    return log;
}

Result<AccessLog> merge_access_logs(std::span<const AccessLog> logs) {
    if (logs.empty()) return fail(EINVAL, "no access log to merge");
    AccessLog merged = logs.front();
    merged.pages.clear();
    merged.recordings = 0;
    struct Seen {
        std::size_t logs = 0;
        std::uint64_t places = 0; // sum
    };
    std::map<std::uint32_t, Seen> pages;
    for (const AccessLog& log : logs) {
        if (log.id != merged.id || log.page_size != merged.page_size ||
            log.page_count != merged.page_count)
            return fail(EINVAL, "access logs of different images");
        merged.settled = merged.settled && log.settled;
        merged.recordings += log.recordings;
        for (std::size_t place = 0; place < log.pages.size(); ++place) {
            Seen& seen = pages[log.pages[place]];
            ++seen.logs;
            seen.places += place;
        }
    }
    std::vector<std::pair<std::uint64_t, std::uint32_t>> order;
    for (const auto& [page, seen] : pages)
        if (seen.logs == logs.size()) order.emplace_back(seen.places, page);
    std::ranges::sort(order);
    for (const auto& [places, page] : order)
        merged.pages.push_back(page);
    return merged;
}

} // namespace thaw::image
