// SPDX-License-Identifier: MIT

// Comparing all of an image with its checksums.

#include "image/memory_map.hpp"
#include "image/memory_reader.hpp"
#include "image/seal.hpp"
#include "image/store.hpp"

#include <fcntl.h>

#include <algorithm>
#include <span>

namespace thaw::image {

namespace {

constexpr std::size_t kVerifyBuffer = 512 << 10;

// What is compared with a map of its pages.
struct Pages {
    std::string_view what; // as check_pages() names it
    MemoryReader reader;
    MemoryMap map;
    std::uint64_t size = 0;
};

// `digest` gets all that was read, where one is given.
Result<> verify_pages(const Pages& pages, const Store::Progress& progress, Digest* digest) {
    const auto& map = pages.map;
    if (map.page_count() * kMapPageSize != pages.size)
        return fail(EBADMSG, "{}.map: made for another size", pages.what);
    std::vector<std::byte> buffer(kVerifyBuffer);
    for (std::uint64_t done = 0; done < pages.size;) {
        if (done % kMapChunkSize == 0) {
            if (!progress(done, pages.size)) return fail(ECANCELED, "canceled");
            if (!map.chunk_is_valid(done / kMapChunkSize))
                return fail(
                    EBADMSG, "{}.map: damaged page list of chunk {}", pages.what,
                    done / kMapChunkSize
                );
        }
        const auto part =
            std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), pages.size - done));
        THAW_CHECK(pages.reader.read(part, done));
        THAW_CHECK(check_pages(part, done / kMapPageSize, map, pages.what));
        if (digest != nullptr) digest->add(part);
        done += part.size();
    }
    if (!progress(pages.size, pages.size)) return fail(ECANCELED, "canceled");
    return {};
}

Result<> verify_memory(const OpenImage& image, const Store::Progress& progress) {
    const auto& manifest = image.manifest;
    THAW_TRY(auto map, MemoryMap::load(image.memory_map.get(), manifest.id));
    (void)posix_fadvise(image.memory.get(), 0, 0, POSIX_FADV_SEQUENTIAL); // a wish
    const Pages pages{"memory", MemoryReader(image), std::move(map), manifest.memory_size};
    return verify_pages(pages, progress, nullptr);
}

Result<>
verify_rootfs(const OpenImage& image, const RootfsRecord& record, const Store::Progress& progress) {
    const auto& [file, map_file] = record;
    const auto id = rootfs_id(image.manifest.id);
    THAW_TRY(auto map, MemoryMap::load(image.rootfs_map.get(), id, map_file.name));
    (void)posix_fadvise(image.rootfs.get(), 0, 0, POSIX_FADV_SEQUENTIAL); // a wish
    const Pages pages{"rootfs", MemoryReader(image.rootfs.get()), std::move(map), file.size};
    Digest digest;
    THAW_CHECK(verify_pages(pages, progress, &digest));
    if (digest.hex() != file.digest)
        return fail(ESTALE, "{}: content is not the sealed one", file.name);
    return {};
}

Result<> verify_all(const OpenImage& image, const Store::Progress& progress) {
    const auto memory = image.manifest.memory_size;
    const auto& rootfs = image.manifest.rootfs;
    const auto all = memory + (rootfs ? rootfs->file.size : 0);
    THAW_CHECK(verify_memory(image, part_of(progress, 0, all)));
    if (!rootfs) return {};
    return verify_rootfs(image, *rootfs, part_of(progress, memory, all));
}

} // namespace

Result<> check_pages(
    std::span<const std::byte> bytes, std::uint64_t first, const MemoryMap& map,
    std::string_view what
) {
    for (std::size_t at = 0; at < bytes.size(); at += kMapPageSize) {
        const auto page = first + at / kMapPageSize;
        if (hash_page(&bytes[at]) != map.page_hash(page))
            return fail(
                ESTALE, "{}: page {} (offset {:#x}) is not the sealed one", what, page,
                page * kMapPageSize
            );
        if (is_zero_page(&bytes[at]) != map.is_zero(page))
            return fail(EBADMSG, "{}.map: wrong about page {} being zero", what, page);
    }
    return {};
}

Result<> Store::verify(std::string_view name, const Progress& progress) const {
    THAW_TRY(const auto image, open(name));
    auto verified = verify_all(image, progress);
    if (!verified)
        return std::unexpected(
            std::move(verified).error().with_context(fmt::format("image '{}'", name))
        );
    return verified;
}

} // namespace thaw::image
