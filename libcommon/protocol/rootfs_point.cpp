// SPDX-License-Identifier: MIT
// The table of a point, and what identifies a base.
#include "core/file.hpp"
#include "protocol/rootfs_control.hpp"
#include "protocol/rootfs_table.hpp"

#include <xxhash.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cstring>

namespace thaw::protocol {

namespace {

constexpr int kTableSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

} // namespace

Result<> check_geometry(const DiskGeometry& geometry) {
    if (!std::has_single_bit(geometry.block_size) || geometry.block_size < kMinBlockSize ||
        geometry.block_size > kMaxBlockSize)
        return fail(EBADMSG, "a block size of {} bytes", geometry.block_size);
    if (geometry.size == 0 || geometry.size > kMaxDiskSize || geometry.size % kMinBlockSize != 0)
        return fail(EBADMSG, "a disk of {} bytes", geometry.size);
    return {};
}

Result<> check_point_table(std::span<const PointEntry> table, const DiskGeometry& geometry) {
    const std::uint64_t blocks = geometry.blocks();
    std::uint64_t next = 0;
    for (const auto& entry : table) {
        if (entry.count == 0 || entry.first_block < next || entry.first_block >= blocks ||
            entry.count > blocks - entry.first_block)
            return fail(EBADMSG, "point: blocks {}+{}", entry.first_block, entry.count);
        next = entry.first_block + entry.count;
        switch (entry.kind) {
        case PointKind::Zero:
            if (entry.file_offset != 0) return fail(EBADMSG, "point: zeros with a place");
            continue;
        case PointKind::Memory:
        case PointKind::Disk:
            // kMaxDiskSize bounds the place, too: what follows may add to it.
            if (entry.file_offset % geometry.block_size != 0 || entry.file_offset > kMaxDiskSize)
                return fail(EBADMSG, "point: blocks at offset {}", entry.file_offset);
            continue;
        }
        return fail(EBADMSG, "point: unknown kind {}", static_cast<std::uint32_t>(entry.kind));
    }
    return {};
}

Result<BaseIdentity> base_identity_of(int fd) {
    THAW_TRY(const FileIdentity file, identify(fd));
    const std::array<std::uint64_t, 4> fields{
        file.device, file.inode, file.size, static_cast<std::uint64_t>(file.mtime_ns)
    };
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(fields.data(), sizeof fields));
    BaseIdentity identity{.kind = BaseKind::File, .size = file.size, .id = {}};
    static_assert(sizeof digest.digest == sizeof identity.id);
    std::memcpy(identity.id.data(), digest.digest, sizeof digest.digest);
    return identity;
}

Result<Fd> make_point_table(std::span<const PointEntry> entries) {
    Fd memfd(::memfd_create("thaw-rootfs-point", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memfd) return fail_errno(errno, "make the table of a point");
    THAW_CHECK(write_all(memfd.get(), std::as_bytes(entries)));
    if (::fcntl(memfd.get(), F_ADD_SEALS, kTableSeals) < 0)
        return fail_errno(errno, "seal the table of a point");
    return memfd;
}

Result<std::vector<PointEntry>> read_point_table(int fd, std::uint64_t entries) {
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & kTableSeals) != kTableSeals)
        return fail(EBADMSG, "point: the table is not sealed");
    struct stat st{};
    if (::fstat(fd, &st) < 0) return fail_errno(errno, "stat the table of a point");
    if (entries > kMaxPointEntries ||
        static_cast<std::uint64_t>(st.st_size) != entries * sizeof(PointEntry))
        return fail(EBADMSG, "point: a table of {} bytes for {} entries", st.st_size, entries);
    std::vector<PointEntry> table(entries);
    THAW_CHECK(pread_exact(fd, std::as_writable_bytes(std::span(table)), 0));
    return table;
}

Result<> check_point_file(const Fd& file) {
    if (!file) return {};
    struct stat st{};
    if (::fstat(file.get(), &st) < 0) return fail_errno(errno, "stat a file of a point");
    if (!S_ISREG(st.st_mode)) return fail(EBADMSG, "point: blocks in something that is no file");
    return {};
}

} // namespace thaw::protocol
