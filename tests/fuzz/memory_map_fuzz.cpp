// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "image/memory_map.hpp"
#include "target.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

using namespace thaw;

namespace {

// Puts the right checksum in where the counts fit the size: no input would get past it otherwise.
void mend_checksum(std::vector<std::byte>& bytes) {
    image::MapHeader header;
    if (bytes.size() < sizeof(header)) return;
    std::memcpy(&header, bytes.data(), sizeof(header));
    const std::size_t rest = bytes.size() - sizeof(header);
    if (header.page_count > rest / 8 || header.chunk_count > rest / 8 - header.page_count) return;
    const std::size_t hashes = (header.page_count + header.chunk_count) * 8;
    if (header.run_count != (rest - hashes) / sizeof(image::ZeroRun)) return;
    std::vector<std::uint64_t> chunks(header.chunk_count);
    std::vector<image::ZeroRun> runs(header.run_count);
    const auto* from = bytes.data() + sizeof(header) + header.page_count * 8;
    std::copy_n(from, chunks.size() * 8, reinterpret_cast<std::byte*>(chunks.data()));
    from += chunks.size() * 8;
    std::copy_n(
        from, runs.size() * sizeof(image::ZeroRun), reinterpret_cast<std::byte*>(runs.data())
    );
    header.checksum = 0;
    header.checksum = image::map_checksum(header, chunks, runs);
    std::memcpy(bytes.data(), &header, sizeof(header));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span(data, size));
    std::vector<std::byte> bytes(input.begin(), input.end());
    mend_checksum(bytes);
    const Fd file(memfd_create("memory.map", MFD_CLOEXEC));
    if (!file || !write_all(file.get(), bytes)) return 0;
    image::ImageId id = {};
    if (size >= sizeof(image::MapHeader)) std::memcpy(&id, data + 16, sizeof(id));
    const auto map = image::MemoryMap::load(file.get(), id);
    if (!map) return 0;
    for (std::uint64_t page = 0; page < map->page_count(); ++page) {
        const auto run = map->run_length(page, map->page_count() - page);
        fuzz::require(run >= 1 && run <= map->page_count() - page);
        fuzz::require(map->is_zero(page) == map->is_zero(page + run - 1));
    }
    for (std::uint64_t chunk = 0; chunk < map->chunk_count(); ++chunk)
        static_cast<void>(map->chunk_is_valid(chunk));
    return 0;
}
