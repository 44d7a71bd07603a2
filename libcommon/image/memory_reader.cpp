// SPDX-License-Identifier: MIT
#include "image/memory_reader.hpp"

#include "core/file.hpp"
#include "image/store.hpp"

#include <algorithm>

namespace thaw::image {

MemoryReader::MemoryReader(const OpenImage& image) : fds_{image.memory.get()} {
    if (!image.layer_table) return;
    table_ = &*image.layer_table;
    for (const auto& base : image.bases)
        fds_.push_back(base.memory.get());
}

Result<> MemoryReader::read(std::span<std::byte> target, std::uint64_t offset) const {
    if (table_ == nullptr) return pread_exact(fds_.front(), target, offset);
    while (!target.empty()) {
        const std::uint64_t page = offset / kPageSize4K;
        const auto place = table_->find(page);
        const std::uint64_t end = (page + place.pages) * kPageSize4K;
        const auto part = target.first(std::min<std::uint64_t>(target.size(), end - offset));
        THAW_CHECK(pread_exact(fds_[place.layer], part, offset));
        target = target.subspan(part.size());
        offset += part.size();
    }
    return {};
}

} // namespace thaw::image
