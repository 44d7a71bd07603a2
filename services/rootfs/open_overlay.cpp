// SPDX-License-Identifier: MIT
#include "open_overlay.hpp"

#include "core/file.hpp"
#include "core/text.hpp"
#include "overlay/remote_base.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::rootfs {

namespace {

Result<> open_durable(const Settings& settings, Overlay::Parts& parts) {
    const auto& folder = settings.durable;
    THAW_CHECK(make_directories(folder, 0700));
    THAW_TRY(auto blocks, DirectFile::named(folder + "/blocks"));
    for (std::size_t i = 0; i < parts.journal.size(); ++i) {
        THAW_TRY(parts.journal[i], CachedFile::named(fmt::format("{}/journal.{}", folder, i)));
    }
    // The names must be as safe as what is in the files.
    THAW_TRY(const Fd directory, open_file(folder, O_RDONLY | O_DIRECTORY));
    if (::fsync(directory.get()) != 0) return fail_errno(errno, "fsync {}", folder);
    parts.disk = std::make_unique<DiskTier>(std::move(blocks), settings.disk_max);
    return {};
}

Result<> open_ephemeral(const Settings& settings, Overlay::Parts& parts) {
    if (settings.memory > 0) {
        THAW_TRY(parts.memory, MemoryTier::create(settings.memory));
    }
    if (settings.spill.empty()) return {};
    THAW_TRY(auto file, DirectFile::temporary(settings.spill));
    parts.disk = std::make_unique<DiskTier>(std::move(file), settings.disk_max);
    return {};
}

Result<std::unique_ptr<BaseImage>> open_base(const Settings& settings) {
    if (!settings.base.empty()) return FileBase::open(settings.base);
    ContentDigest digest{};
    if (const auto bytes = hex_decode(settings.base_digest))
        std::ranges::copy(*bytes, digest.begin()); // apply_setting() has checked it
    return RemoteBase::connect(settings.base_socket, digest);
}

} // namespace

Result<std::unique_ptr<Overlay>> open_overlay(const Settings& settings) {
    Overlay::Parts parts;
    THAW_TRY(parts.base, open_base(settings));
    // What speaks NBD counts in sectors.
    constexpr std::uint64_t kSector = 512;
    parts.size =
        settings.size != 0 ? settings.size : (parts.base->size() + kSector - 1) / kSector * kSector;
    if (parts.size % kSector != 0)
        return fail(EINVAL, "a disk of {} bytes is not one of whole sectors", parts.size);
    THAW_CHECK(
        settings.durable.empty() ? open_ephemeral(settings, parts) : open_durable(settings, parts)
    );
    return Overlay::open(std::move(parts));
}

} // namespace thaw::rootfs
