// SPDX-License-Identifier: MIT
#include "overlay/journal_format.hpp"

#include "image/checksum.hpp"

#include <algorithm>
#include <cstring>

namespace thaw::rootfs::format {

namespace {

std::uint64_t checksum_of(const Header& header) {
    const auto bytes = std::as_bytes(std::span(&header, 1));
    return image::checksum_of_parts({bytes.first(offsetof(Header, checksum))});
}

std::uint64_t checksum_of(const RecordHead& head, std::span<const std::byte> changes) {
    const auto bytes = std::as_bytes(std::span(&head, 1));
    return image::checksum_of_parts({bytes.first(offsetof(RecordHead, checksum)), changes});
}

} // namespace

void seal(Header& header) {
    header.checksum = checksum_of(header);
}

bool intact(const Header& header) {
    return header.magic == kHeaderMagic && header.checksum == checksum_of(header);
}

std::vector<std::byte>
encode_record(std::uint64_t generation, std::uint64_t sequence, std::span<const MapRun> changes) {
    std::vector<Change> packed;
    packed.reserve(changes.size());
    for (const auto& change : changes)
        packed.push_back({change.block, change.count, pack(change.location)});
    const auto body = std::as_bytes(std::span(packed));
    RecordHead head{
        .magic = kRecordMagic,
        .generation = generation,
        .sequence = sequence,
        .count = packed.size(),
        .checksum = 0,
    };
    head.checksum = checksum_of(head, body);
    std::vector<std::byte> record(record_size(packed.size()));
    std::memcpy(record.data(), &head, sizeof head);
    std::ranges::copy(body, record.begin() + sizeof head);
    return record;
}

std::optional<Record> decode_record(std::span<const std::byte> data, std::uint64_t generation) {
    RecordHead head{};
    if (data.size() < sizeof head) return std::nullopt;
    std::memcpy(&head, data.data(), sizeof head);
    if (head.magic != kRecordMagic || head.generation != generation || head.count > kMaxChanges ||
        record_size(head.count) > data.size())
        return std::nullopt;
    const auto body = data.subspan(sizeof head, head.count * sizeof(Change));
    if (head.checksum != checksum_of(head, body)) return std::nullopt;
    Record record{.sequence = head.sequence, .size = record_size(head.count), .changes = {}};
    for (std::uint64_t i = 0; i < head.count; ++i) {
        Change change{};
        std::memcpy(&change, body.data() + i * sizeof change, sizeof change);
        record.changes.push_back(
            {.block = change.block, .count = change.count, .location = unpack(change.location)}
        );
    }
    return record;
}

} // namespace thaw::rootfs::format
