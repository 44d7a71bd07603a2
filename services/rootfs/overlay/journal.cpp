// SPDX-License-Identifier: MIT
#include "overlay/journal.hpp"

#include "overlay/journal_format.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

namespace thaw::rootfs {

namespace {

using format::kUnit;

// A log shorter than this is not worth a new one.
constexpr std::uint64_t kRewriteMin = 8 << 20;
// The file grows in steps, so that room is short before a record is needed, not at it.
constexpr std::uint64_t kReserveStep = 1 << 20;

// Nothing: no header, or none that is whole.
Result<std::optional<format::Header>> read_header(StableFile& file) {
    THAW_TRY(const auto size, file.size());
    if (size < kUnit) return std::nullopt;
    format::Header header{};
    THAW_CHECK(file.read(0, std::as_writable_bytes(std::span(&header, 1))));
    if (!format::intact(header)) return std::nullopt;
    return header;
}

Result<> write_header(StableFile& file, const format::Header* header) {
    std::vector<std::byte> block(kUnit);
    if (header != nullptr) std::memcpy(block.data(), header, sizeof *header);
    THAW_CHECK(file.write(0, block));
    return file.sync();
}

Result<> check_header(const format::Header& header, const JournalIdentity& identity) {
    if (header.version != format::kVersion)
        return fail(
            EPROTONOSUPPORT, "the overlay's journal has version {}, known is {}", header.version,
            format::kVersion
        );
    if (header.block_size != kBlockSize)
        return fail(EPROTONOSUPPORT, "the overlay has blocks of {} bytes", header.block_size);
    if (header.disk_size != identity.disk_size)
        return fail(
            ESTALE, "the overlay is of a disk of {} bytes, not of {}", header.disk_size,
            identity.disk_size
        );
    if (header.base_tag != identity.base_tag)
        return fail(ESTALE, "the overlay was made over another base, or the base has changed");
    return {};
}

} // namespace

Result<Journal> Journal::open(
    Files files, JournalIdentity identity, bool fresh,
    const std::function<Result<>(const MapRun&)>& apply
) {
    Journal journal(std::move(files), identity);
    std::optional<format::Header> best;
    for (std::size_t i = 0; i < journal.files_.size(); ++i) {
        THAW_TRY(const auto header, read_header(*journal.files_[i]));
        if (!header || (best && best->generation >= header->generation)) continue;
        best = header;
        journal.current_ = i;
    }
    if (!best) {
        if (!fresh) return fail(EBADMSG, "the overlay's journal has no header that is whole");
        THAW_TRY(const auto log, journal.write_map(0, 1, {}));
        THAW_CHECK(journal.begin(0, 1, log));
        return journal;
    }
    THAW_CHECK(check_header(*best, identity));
    journal.generation_ = best->generation;
    THAW_CHECK(journal.replay(best->records, apply));
    // A crash may have come between the new header and the end of the old one.
    auto& other = *journal.files_[1 - journal.current_];
    THAW_TRY(const auto old, read_header(other));
    if (old) THAW_CHECK(write_header(other, nullptr));
    return journal;
}

Result<>
Journal::replay(std::uint64_t records, const std::function<Result<>(const MapRun&)>& apply) {
    auto& file = current();
    THAW_TRY(const auto size, file.size());
    std::vector<std::byte> log(size - kUnit);
    THAW_CHECK(file.read(kUnit, log));
    std::span<const std::byte> rest(log);
    while (const auto record = format::decode_record(rest, generation_)) {
        if (record->sequence != log_.records) break;
        for (const auto& change : record->changes)
            THAW_CHECK(apply(change));
        rest = rest.subspan(record->size);
        ++log_.records;
    }
    log_.tail = size - rest.size();
    bool damaged = log_.records < records;
    for (auto behind = rest; !damaged && behind.size() >= kUnit; behind = behind.subspan(kUnit)) {
        const auto record = format::decode_record(behind, generation_);
        damaged = record && record->sequence >= log_.records;
    }
    if (damaged)
        return fail(EBADMSG, "record {} of the overlay's journal is damaged", log_.records);
    rewrite_at_ = kRewriteMin;
    return {};
}

Result<> Journal::reserve(std::size_t changes) {
    const std::uint64_t whole = changes / format::kMaxChanges;
    const std::uint64_t need = log_.tail + whole * format::record_size(format::kMaxChanges) +
                               format::record_size(changes % format::kMaxChanges);
    return current().reserve((need / kReserveStep + 1) * kReserveStep);
}

Result<> Journal::write_records(
    StableFile& file, std::uint64_t generation, Log& log, std::span<const MapRun> changes
) {
    while (!changes.empty()) {
        const auto part = changes.first(std::min<std::size_t>(changes.size(), format::kMaxChanges));
        const auto record = format::encode_record(generation, log.records, part);
        THAW_CHECK(file.write(log.tail, record));
        // Each for itself: of two unsynced ones the first could be lost and the second kept.
        THAW_CHECK(file.sync());
        log.tail += record.size();
        ++log.records;
        changes = changes.subspan(part.size());
    }
    return {};
}

Result<> Journal::append(std::span<const MapRun> changes) {
    return write_records(current(), generation_, log_, changes);
}

Result<Journal::Log>
Journal::write_map(std::size_t index, std::uint64_t generation, std::span<const MapRun> map) {
    Log log;
    auto& file = *files_[index];
    const std::uint64_t most =
        kUnit + (map.size() / format::kMaxChanges + 1) * format::record_size(format::kMaxChanges);
    THAW_CHECK(file.reserve(map.empty() ? kReserveStep : most));
    THAW_CHECK(write_records(file, generation, log, map));
    return log;
}

Result<> Journal::begin(std::size_t index, std::uint64_t generation, Log log) {
    format::Header header{
        .magic = format::kHeaderMagic,
        .version = format::kVersion,
        .block_size = kBlockSize,
        .generation = generation,
        .disk_size = identity_.disk_size,
        .base_tag = identity_.base_tag,
        .records = log.records,
        .checksum = 0,
    };
    format::seal(header);
    THAW_CHECK(write_header(*files_[index], &header));
    current_ = index;
    generation_ = generation;
    log_ = log;
    rewrite_at_ = std::max(kRewriteMin, 4 * log.tail);
    return {};
}

Result<bool> Journal::rewrite(std::span<const MapRun> map) {
    const std::size_t old = current_;
    const auto log = write_map(1 - old, generation_ + 1, map);
    if (!log) {
        rewrite_at_ = log_.tail + kRewriteMin; // not again at once
        return false;
    }
    THAW_CHECK(begin(1 - old, generation_ + 1, *log));
    // The old log must never be taken for the newest, even if the new one is damaged one day.
    THAW_CHECK(write_header(*files_[old], nullptr));
    return true;
}

} // namespace thaw::rootfs
