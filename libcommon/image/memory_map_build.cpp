// SPDX-License-Identifier: MIT

// Hashing and zero detection, the pass over the whole memory file.

#include "core/file.hpp"
#include "image/memory_map.hpp"

#include <xxhash.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace thaw::image {

namespace {

// Small enough to stay in the second-level cache between the read and the hash.
constexpr std::size_t kReadSize = 512 << 10;
// Progress is told this often.
constexpr std::uint64_t kProgressStep = 16 << 20;

void append(std::vector<std::byte>& out, const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    out.insert(out.end(), bytes, bytes + size);
}

void add_zero_page(std::vector<ZeroRun>& runs, std::uint64_t page) {
    if (!runs.empty() && runs.back().first_page + runs.back().page_count == page)
        runs.back().page_count++;
    else
        runs.push_back({page, 1});
}

std::vector<std::byte> assemble(
    const ImageId& id, const std::vector<std::uint64_t>& pages, const std::vector<ZeroRun>& runs
) {
    std::vector<std::uint64_t> chunks;
    for (std::size_t first = 0; first < pages.size(); first += kPagesPerChunk) {
        const auto count = std::min<std::size_t>(kPagesPerChunk, pages.size() - first);
        chunks.push_back(XXH3_64bits(&pages[first], count * sizeof pages[0]));
    }
    MapHeader header;
    header.id = id;
    header.page_count = pages.size();
    header.chunk_count = chunks.size();
    header.run_count = runs.size();
    header.checksum = map_checksum(header, chunks, runs);

    std::vector<std::byte> out;
    out.reserve(sizeof header + (pages.size() + chunks.size()) * 8 + runs.size() * sizeof(ZeroRun));
    append(out, &header, sizeof header);
    append(out, pages.data(), pages.size() * sizeof pages[0]);
    append(out, chunks.data(), chunks.size() * sizeof chunks[0]);
    append(out, runs.data(), runs.size() * sizeof(ZeroRun));
    return out;
}

} // namespace

namespace {

// The pages that a difference holds itself, in pieces.
class LayerPass {
public:
    LayerPass(int memory_fd, std::vector<std::uint64_t>& pages, const KeepPages& keep)
        : memory_fd_(memory_fd), pages_(pages), keep_(keep), buffer_(kReadSize) {
        const std::vector<std::byte> zeros(kMapPageSize);
        zero_hash_ = hash_page(zeros.data());
    }

    Result<> read(std::uint64_t first, std::uint64_t count, std::vector<bool>& zero) {
        const auto part = std::span(buffer_).first(count * kMapPageSize);
        if (auto read = pread_exact(memory_fd_, part, first * kMapPageSize); !read)
            return std::unexpected(std::move(read).error().with_context("memory file"));
        std::uint64_t kept = 0; // pages before `i` that are data and not handed on yet
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::byte* page = &part[i * kMapPageSize];
            const bool is_zero = is_zero_page(page);
            zero[first + i] = is_zero;
            pages_[first + i] = is_zero ? zero_hash_ : hash_page(page);
            if (!is_zero) ++kept;
            if (kept == 0 || (!is_zero && i + 1 < count)) continue;
            const std::uint64_t begin = (is_zero ? i : i + 1) - kept;
            THAW_CHECK(keep_(
                part.subspan(begin * kMapPageSize, kept * kMapPageSize),
                (first + begin) * kMapPageSize
            ));
            kept = 0;
        }
        return {};
    }
    static constexpr std::uint64_t kPages = kReadSize / kMapPageSize;

private:
    int memory_fd_;
    std::vector<std::uint64_t>& pages_;
    const KeepPages& keep_;
    std::vector<std::byte> buffer_;
    std::uint64_t zero_hash_ = 0;
};

// What the base says of all pages; what is the image's own is written over it.
Result<>
take_base(const MemoryMap& base, std::vector<std::uint64_t>& pages, std::vector<bool>& zero) {
    for (std::uint64_t chunk = 0; chunk < base.chunk_count(); ++chunk)
        if (!base.chunk_is_valid(chunk))
            return fail(EBADMSG, "the base's memory.map: damaged page list of chunk {}", chunk);
    for (std::uint64_t page = 0; page < pages.size(); ++page)
        pages[page] = base.page_hash(page);
    for (const auto& run : base.zero_runs())
        for (std::uint64_t i = 0; i < run.page_count; ++i)
            zero[run.first_page + i] = true;
    return {};
}

} // namespace

Result<std::vector<std::byte>> build_layer_map(
    int memory_fd, const ImageId& id, const MemoryMap& base, const PageBitmap& present,
    const KeepPages& keep, const std::function<bool(std::uint64_t, std::uint64_t)>& progress
) {
    const std::uint64_t count = present.pages();
    if (base.page_count() != count)
        return fail(EINVAL, "the base has {} pages, not {}", base.page_count(), count);
    std::vector<std::uint64_t> pages(count);
    std::vector<bool> zero(count);
    THAW_CHECK(take_base(base, pages, zero));
    LayerPass pass(memory_fd, pages, keep);
    for (std::uint64_t page = 0; page < count;) {
        if (progress && !progress(page * kMapPageSize, count * kMapPageSize))
            return fail(ECANCELED, "canceled");
        std::uint64_t run = present.run_length(page);
        if (present.test(page)) {
            run = std::min(run, LayerPass::kPages);
            THAW_CHECK(pass.read(page, run, zero));
        }
        page += run;
    }
    if (progress && !progress(count * kMapPageSize, count * kMapPageSize))
        return fail(ECANCELED, "canceled");
    std::vector<ZeroRun> runs;
    for (std::uint64_t page = 0; page < count; ++page)
        if (zero[page]) add_zero_page(runs, page);
    return assemble(id, pages, runs);
}

Result<std::vector<std::byte>> build_memory_map(
    int memory_fd, const ImageId& id,
    const std::function<bool(std::uint64_t, std::uint64_t)>& progress, Digest* digest
) {
    struct stat st{};
    if (fstat(memory_fd, &st) < 0) return fail_errno(errno, "memory file: stat");
    const auto total = static_cast<std::uint64_t>(st.st_size);
    if (total == 0) return fail(EINVAL, "memory file: empty");
    if (total % kMapPageSize != 0)
        return fail(
            EINVAL, "memory file: {} bytes is not a multiple of {} (truncated?)", total,
            kMapPageSize
        );
    (void)posix_fadvise(memory_fd, 0, 0, POSIX_FADV_SEQUENTIAL); // a wish

    std::vector<std::uint64_t> pages;
    pages.reserve(total / kMapPageSize);
    std::vector<ZeroRun> runs;
    std::vector<std::byte> buffer(kReadSize);
    const std::vector<std::byte> zeros(kMapPageSize);
    const auto zero_hash = hash_page(zeros.data());

    for (std::uint64_t done = 0; done < total;) {
        if (done % kProgressStep == 0 && progress && !progress(done, total))
            return fail(ECANCELED, "canceled");
        const auto part = std::span(buffer).first(std::min<std::uint64_t>(kReadSize, total - done));
        if (auto read = pread_exact(memory_fd, part, done); !read)
            return std::unexpected(std::move(read).error().with_context("memory file"));
        for (std::size_t at = 0; at < part.size(); at += kMapPageSize) {
            const bool zero = is_zero_page(&part[at]);
            if (zero) add_zero_page(runs, pages.size());
            pages.push_back(zero ? zero_hash : hash_page(&part[at]));
        }
        if (digest != nullptr) digest->add(part);
        done += part.size();
    }
    if (progress && !progress(total, total)) return fail(ECANCELED, "canceled");
    return assemble(id, pages, runs);
}

} // namespace thaw::image
