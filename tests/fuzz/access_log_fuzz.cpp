// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "image/access_log.hpp"
#include "target.hpp"

#include <xxhash.h>

#include <sys/mman.h>

#include <cstring>
#include <vector>

using namespace thaw;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span(data, size));
    std::vector<std::byte> bytes(input.begin(), input.end());
    image::AccessLogHeader header;
    if (size >= sizeof header) { // no input would get past the checksum otherwise
        std::memcpy(&header, bytes.data(), sizeof header);
        header.checksum = 0;
        std::memcpy(bytes.data(), &header, sizeof header);
        header.checksum = XXH3_64bits(bytes.data(), bytes.size());
        std::memcpy(bytes.data(), &header, sizeof header);
    }
    const Fd file(memfd_create("access.log", MFD_CLOEXEC));
    if (!file || !write_all(file.get(), bytes)) return 0;
    // A memory as large as a file may say, within reason.
    const std::uint64_t pages = header.page_count % (1 << 16);
    const auto log = image::load_access_log(file.get(), header.id, pages);
    if (!log) return 0;
    for (const std::uint32_t page : log->pages)
        fuzz::require(page < pages);
    fuzz::require(image::encode_access_log(*log).size() == bytes.size());
    return 0;
}
