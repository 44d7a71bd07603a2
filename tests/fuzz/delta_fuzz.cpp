// SPDX-License-Identifier: MIT
// A difference in one file: header, lists, data.
#include "core/file.hpp"
#include "delta/reader.hpp"
#include "image/checksum.hpp"
#include "target.hpp"

#include <sys/mman.h>

#include <cstring>

using namespace thaw;

namespace {

// Puts counts and checksums right where that is possible: no input would get past them otherwise.
void mend(std::vector<std::byte>& bytes) {
    delta::DeltaHeader header;
    if (bytes.size() < sizeof header) return;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.magic = delta::kMagic;
    header.version = delta::kVersion;
    header.reserved = 0;
    header.unused = {};
    header.check_bytes = std::max(delta::kCheckBytes, header.block_size);
    header.run_count %= 256;
    header.notes_bytes %= 64;
    header.state_bytes %= 64;
    header.data_bytes %= 1 << 20;
    header.check_count = (header.data_bytes + header.check_bytes - 1) / header.check_bytes;
    const std::uint64_t meta = delta::meta_size(header);
    if (meta > bytes.size() - sizeof header) return;
    header.data_offset = (sizeof header + meta + 4095) / 4096 * 4096;
    bytes.resize(header.data_offset + header.data_bytes);
    header.meta_checksum =
        image::checksum_of_parts({std::span(bytes).subspan(sizeof header, meta)});
    header.header_checksum = 0;
    header.header_checksum = image::checksum_of_parts({std::as_bytes(std::span(&header, 1))});
    std::memcpy(bytes.data(), &header, sizeof header);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span(data, size));
    std::vector<std::byte> bytes(input.begin(), input.end());
    if (size % 2 == 0) mend(bytes);
    Fd file(memfd_create("delta", MFD_CLOEXEC));
    if (!file || !write_all(file.get(), bytes)) return 0;
    const auto loaded = delta::DeltaFile::load(std::move(file));
    if (!loaded) return 0;
    const delta::Delta& content = loaded->content();
    std::uint64_t next = 0;
    std::uint64_t packed = 0;
    for (const auto& run : content.runs) {
        fuzz::require(run.count > 0 && run.first_block >= next);
        next = run.first_block + run.count;
        fuzz::require(next <= content.geometry.blocks());
        if (run.kind == delta::RunKind::Data) packed += content.bytes_of(run);
    }
    fuzz::require(packed == content.data_bytes);
    fuzz::require(content.data_offset + packed == bytes.size());
    std::uint64_t read = 0;
    const auto checked = loaded->read_checked(
        [&](std::span<const std::byte> part, std::uint64_t position) -> Result<> {
            fuzz::require(position == read);
            read += part.size();
            return {};
        },
        nullptr
    );
    fuzz::require(!checked || read == packed);
    return 0;
}
