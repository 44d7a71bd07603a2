// SPDX-License-Identifier: MIT
#include "delta/format.hpp"

#include "core/text.hpp"
#include "image/checksum.hpp"

#include <algorithm>
#include <cstring>

namespace thaw::delta {

namespace {

std::uint64_t units(std::uint64_t bytes, std::uint64_t unit) {
    return (bytes + unit - 1) / unit;
}

template <class T>
void append(std::vector<std::byte>& out, const T& range) {
    const auto bytes = std::as_bytes(std::span(range));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

std::uint64_t header_checksum(DeltaHeader header) {
    header.header_checksum = 0;
    return image::checksum_of_parts({std::as_bytes(std::span(&header, 1))});
}

DeltaHeader header_of(const Delta& delta) {
    DeltaHeader header;
    header.kind = static_cast<std::uint32_t>(delta.kind);
    header.size = delta.geometry.size;
    header.block_size = delta.geometry.block_size;
    header.check_bytes = delta.check_bytes;
    header.base_form = static_cast<std::uint32_t>(delta.base.form);
    header.base_size = delta.base.size;
    header.base_id = delta.base.id;
    header.id = delta.id;
    header.created = delta.created;
    header.run_count = delta.runs.size();
    header.data_blocks = delta.data_blocks;
    header.zero_blocks = delta.zero_blocks;
    header.data_offset = delta.data_offset;
    header.data_bytes = delta.data_bytes;
    header.check_count = units(delta.data_bytes, delta.check_bytes);
    header.notes_bytes = delta.notes.size();
    header.state_bytes = delta.state.size();
    return header;
}

std::uint64_t data_offset_of(const DeltaHeader& header) {
    return units(sizeof(DeltaHeader) + meta_size(header), kDataAlignment) * kDataAlignment;
}

// Blocks in order, within the disk; counts them.
Result<> count_runs(Delta& delta) {
    const std::uint64_t blocks = delta.geometry.blocks();
    std::uint64_t next = 0;
    delta.data_blocks = delta.zero_blocks = delta.data_bytes = 0;
    for (const auto& run : delta.runs) {
        if (run.count == 0 || run.first_block < next || run.first_block >= blocks ||
            run.count > blocks - run.first_block)
            return fail(EBADMSG, "blocks {}+{}", run.first_block, run.count);
        next = run.first_block + run.count;
        switch (run.kind) {
        case RunKind::Data:
            delta.data_blocks += run.count;
            delta.data_bytes += delta.bytes_of(run);
            continue;
        case RunKind::Zero:
            delta.zero_blocks += run.count;
            continue;
        }
        return fail(EBADMSG, "blocks of kind {}", static_cast<std::uint32_t>(run.kind));
    }
    return {};
}

Result<> check_ranges(const DeltaHeader& header) {
    if (header.kind != static_cast<std::uint32_t>(DeltaKind::Disk) &&
        header.kind != static_cast<std::uint32_t>(DeltaKind::Memory))
        return fail(EBADMSG, "a difference of kind {}", header.kind);
    if (header.base_form > static_cast<std::uint32_t>(BaseForm::Image) ||
        header.base_size > protocol::kMaxDiskSize)
        return fail(EBADMSG, "a base of form {}, {} bytes", header.base_form, header.base_size);
    if (header.reserved != 0 ||
        std::ranges::any_of(header.unused, [](std::uint64_t word) { return word != 0; }))
        return fail(EBADMSG, "words that this version does not use");
    THAW_CHECK(protocol::check_geometry({.size = header.size, .block_size = header.block_size}));
    if (header.check_bytes != std::max(kCheckBytes, header.block_size))
        return fail(EBADMSG, "a checksum per {} bytes", header.check_bytes);
    // With these bounds no sum below overflows.
    if (header.run_count > kMaxRuns || header.check_count > kMaxChecks ||
        header.notes_bytes > kMaxNotes || header.state_bytes > kMaxState ||
        header.data_bytes > header.size)
        return fail(EBADMSG, "counts out of range");
    if (header.check_count != units(header.data_bytes, header.check_bytes) ||
        header.data_offset != data_offset_of(header))
        return fail(EBADMSG, "counts that do not fit each other");
    return {};
}

template <class T>
std::span<const std::byte> take(std::span<const std::byte> from, std::vector<T>& to) {
    const std::size_t bytes = to.size() * sizeof(T);
    if (bytes > 0) std::memcpy(to.data(), from.data(), bytes);
    return from.subspan(bytes);
}

} // namespace

std::uint64_t Delta::bytes_of(const DeltaRun& run) const {
    const std::uint64_t begin = run.first_block * geometry.block_size;
    const std::uint64_t end = (run.first_block + run.count) * geometry.block_size;
    return std::min(end, geometry.size) - begin;
}

std::uint64_t meta_size(const DeltaHeader& header) {
    return header.run_count * sizeof(DeltaRun) + header.check_count * sizeof(std::uint64_t) +
           header.notes_bytes + header.state_bytes;
}

Result<> lay_out(Delta& delta) {
    THAW_CHECK(protocol::check_geometry(delta.geometry));
    THAW_CHECK(count_runs(delta));
    delta.check_bytes = std::max(kCheckBytes, delta.geometry.block_size);
    if (delta.runs.size() > kMaxRuns || units(delta.data_bytes, delta.check_bytes) > kMaxChecks)
        return fail(EOVERFLOW, "too many changes for one file");
    if (delta.notes.size() > kMaxNotes || delta.state.size() > kMaxState)
        return fail(EOVERFLOW, "notes or state too long for one file");
    delta.checks.resize(units(delta.data_bytes, delta.check_bytes));
    delta.data_offset = data_offset_of(header_of(delta));
    return {};
}

std::vector<std::byte> encode_meta(const Delta& delta) {
    DeltaHeader header = header_of(delta);
    std::vector<std::byte> out(sizeof header);
    append(out, delta.runs);
    append(out, delta.checks);
    append(out, delta.notes);
    append(out, delta.state);
    header.meta_checksum = image::checksum_of_parts({std::span(out).subspan(sizeof header)});
    header.header_checksum = header_checksum(header);
    std::memcpy(out.data(), &header, sizeof header);
    return out;
}

Result<DeltaHeader> decode_header(std::span<const std::byte> bytes) {
    DeltaHeader header;
    if (bytes.size() < sizeof header) return fail(EBADMSG, "too short for a difference");
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.magic != kMagic) return fail(EBADMSG, "not a difference (no magic number)");
    if (header.version != kVersion)
        return fail(EPROTONOSUPPORT, "a difference of version {}", header.version);
    if (header.header_checksum != header_checksum(header))
        return fail(EBADMSG, "the header is damaged");
    THAW_CHECK(check_ranges(header));
    return header;
}

Result<Delta> decode_meta(const DeltaHeader& header, std::span<const std::byte> meta) {
    if (meta.size() != meta_size(header)) return fail(EBADMSG, "lists of the wrong size");
    if (image::checksum_of_parts({meta}) != header.meta_checksum)
        return fail(EBADMSG, "the list of blocks is damaged");
    Delta delta;
    delta.kind = static_cast<DeltaKind>(header.kind);
    delta.geometry = {.size = header.size, .block_size = header.block_size};
    delta.base = {
        .form = static_cast<BaseForm>(header.base_form),
        .size = header.base_size,
        .id = header.base_id,
    };
    delta.id = header.id;
    delta.created = header.created;
    delta.check_bytes = header.check_bytes;
    delta.data_offset = header.data_offset;
    delta.runs.resize(header.run_count);
    delta.checks.resize(header.check_count);
    std::vector<char> notes(header.notes_bytes);
    delta.state.resize(header.state_bytes);
    take(take(take(take(meta, delta.runs), delta.checks), notes), delta.state);
    delta.notes.assign(notes.begin(), notes.end());
    if (!is_valid_utf8(delta.notes)) return fail(EBADMSG, "notes that are not UTF-8");
    THAW_CHECK(count_runs(delta));
    if (delta.data_blocks != header.data_blocks || delta.zero_blocks != header.zero_blocks ||
        delta.data_bytes != header.data_bytes)
        return fail(EBADMSG, "blocks that are not as many as the header says");
    return delta;
}

} // namespace thaw::delta
