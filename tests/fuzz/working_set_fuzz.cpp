// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "image/working_set.hpp"
#include "target.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

using namespace thaw;

namespace {

// Puts checksum and size right where the counts allow: no input would get past them otherwise.
void mend(std::vector<std::byte>& bytes) {
    image::WorkingSetTable table;
    if (bytes.size() < sizeof table.header) return;
    std::memcpy(&table.header, bytes.data(), sizeof table.header);
    auto& header = table.header;
    header.page_count %= 1 << 16;
    header.data_pages %= 64;
    header.run_count %= 64;
    header.segment_pages = header.page_size == image::kPageSize2M ? 512 : image::kSegmentPages;
    table.runs.resize(header.run_count);
    table.segments.resize((header.data_pages + header.segment_pages - 1) / header.segment_pages);
    header.data_offset = 4096;
    bytes.resize(header.data_offset + header.data_pages * 4096);
    // Not memcpy(): either may be empty.
    const auto runs = std::as_writable_bytes(std::span(table.runs));
    const auto segments = std::as_writable_bytes(std::span(table.segments));
    const auto rest = std::span(bytes).subspan(sizeof header);
    std::ranges::copy(rest.first(runs.size()), runs.begin());
    std::ranges::copy(rest.subspan(runs.size(), segments.size()), segments.begin());
    header.checksum = image::working_set_checksum(table);
    std::memcpy(bytes.data(), &header, sizeof header);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span(data, size));
    std::vector<std::byte> bytes(input.begin(), input.end());
    if (size % 2 == 0) mend(bytes);
    image::WorkingSetHeader header;
    if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
    const Fd file(memfd_create("working-set", MFD_CLOEXEC));
    if (!file || !write_all(file.get(), bytes)) return 0;
    const std::uint64_t pages = header.page_count % (1 << 16);
    const auto table = image::load_working_set(file.get(), header.id, pages);
    if (!table) return 0;
    std::uint64_t covered = 0;
    for (const auto& run : table->runs) {
        fuzz::require(run.pages() > 0 && run.first_page + run.pages() <= pages);
        covered += run.pages();
    }
    fuzz::require(covered == table->header.data_pages + table->header.zero_pages);
    fuzz::require(covered <= pages);
    return 0;
}
