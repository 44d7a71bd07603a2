// SPDX-License-Identifier: MIT

#include "image/seal.hpp"

#include "core/names.hpp"
#include "core/text.hpp"
#include "image/digest.hpp"
#include "image/listing.hpp"
#include "image/memory_map.hpp"
#include "image/range_copier.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

namespace thaw::image {

namespace {

constexpr std::size_t kDigestBuffer = 256 << 10;
constexpr std::size_t kGroupBuffer = 16 << 10;

Result<ImageId> random_id() {
    ImageId id{};
    if (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
        return fail_errno(errno, "getrandom");
    return id;
}

// The group VMMs run under; no value when the system has none.
std::optional<gid_t> image_group() {
    std::vector<char> buffer(kGroupBuffer);
    group entry{};
    group* found = nullptr;
    if (getgrnam_r(kImageGroup, &entry, buffer.data(), buffer.size(), &found) != 0 ||
        found == nullptr)
        return std::nullopt;
    return found->gr_gid;
}

void warn(Store::Warnings* warnings, std::string text) {
    if (warnings != nullptr) warnings->push_back(std::move(text));
}

Result<> sync_fd(int fd, std::string_view what) {
    if (fsync(fd) < 0) return fail_errno(errno, "fsync {}", what);
    return {};
}

Result<FileRecord>
write_record(int directory, const char* name, std::span<const std::byte> content) {
    const std::string_view bytes(reinterpret_cast<const char*>(content.data()), content.size());
    THAW_CHECK(write_file_atomic_at(directory, name, bytes, kFileMode, Durability::Disk));
    Digest digest;
    digest.add(content);
    return FileRecord{name, content.size(), digest.hex()};
}

// Fills the memory file of a difference and describes it.
Result<std::vector<std::byte>>
fill_layer(const LayerSource& layer, Manifest& manifest, const Store::Progress& progress) {
    const auto& base = layer.base.manifest;
    THAW_TRY(const auto map, MemoryMap::load(layer.base.memory_map.get(), base.id));
    const auto keep = [&](std::span<const std::byte> bytes, std::uint64_t offset) {
        return write_at(layer.target_fd, bytes, offset);
    };
    return build_layer_map(layer.memory_fd, manifest.id, map, layer.present, keep, progress);
}

Result<> write_maps(
    int directory, int memory, Manifest& manifest, const Store::Progress& progress,
    const LayerSource* layer
) {
    auto map = layer == nullptr ? build_memory_map(memory, manifest.id, progress)
                                : fill_layer(*layer, manifest, progress);
    if (!map) return std::unexpected(std::move(map).error());
    THAW_TRY(manifest.memory_map, write_record(directory, kMemoryMapFile, *map));
    manifest.memory.digest = manifest.memory_map.digest;
    if (layer == nullptr) return {};
    const auto& base = layer->base;
    manifest.base = BaseImage{base.name, base.manifest.id};
    const auto* below = base.layer_table ? &*base.layer_table : nullptr;
    THAW_TRY(const auto table, build_layers(manifest.id, base.manifest.id, below, layer->present));
    THAW_TRY(manifest.layers, write_record(directory, kLayersFile, table));
    return {};
}

// Names of the files that sealing wrote, but for the manifest.
std::vector<const char*> made_files(const Manifest& manifest) {
    std::vector<const char*> names{kMemoryMapFile};
    if (manifest.base) names.push_back(kLayersFile);
    if (manifest.rootfs) names.push_back(kRootfsMapFile);
    return names;
}

// The root file system, if there is to be one; its record gets what is known without reading it.
Result<Fd> open_rootfs(int directory, Manifest& manifest) {
    if (!manifest.rootfs) return Fd();
    auto& file = manifest.rootfs->file;
    if (file.name.empty()) file.name = kRootfsFile;
    THAW_TRY(auto rootfs, open_regular(directory, file.name));
    THAW_TRY(file.size, size_of(rootfs.get()));
    if (auto size = check_rootfs_size(file.size); !size)
        return std::unexpected(std::move(size).error().with_context(file.name));
    return rootfs;
}

Result<> write_rootfs_map(
    int directory, int rootfs, const ImageId& id, RootfsRecord& record,
    const Store::Progress& progress
) {
    Digest digest;
    auto map = build_memory_map(rootfs, rootfs_id(id), progress, &digest);
    if (!map) return std::unexpected(std::move(map).error().with_context(record.file.name));
    record.file.digest = digest.hex();
    THAW_TRY(record.map, write_record(directory, kRootfsMapFile, *map));
    return sync_fd(rootfs, record.file.name);
}

} // namespace

Store::Progress part_of(const Store::Progress& progress, std::uint64_t before, std::uint64_t all) {
    return [&progress, before, all](std::uint64_t done, std::uint64_t) {
        return !progress || progress(before + done, all);
    };
}

Result<> protect_files(std::span<const int> fds, Store::Warnings* warnings) {
    const auto group = image_group();
    if (!group)
        warn(
            warnings, fmt::format("group '{}' does not exist: ownership left as it is", kImageGroup)
        );
    bool refused = false;
    for (const int fd : fds) {
        if (group && fchown(fd, 0, *group) < 0) {
            if (errno != EPERM) return fail_errno(errno, "change owner");
            refused = true;
        }
        const mode_t mode = fd == fds.front() ? kDirectoryMode : kFileMode;
        if (fchmod(fd, mode) < 0) return fail_errno(errno, "set mode {:o}", mode);
    }
    if (refused) warn(warnings, "not permitted to change the owner: VMMs may not read the image");
    return {};
}

Result<> check_image_name(std::string_view name) {
    if (is_valid_image_name(name)) return {};
    return fail(
        EINVAL,
        "'{}' cannot name an image: letters, digits, '.', '_' and '-', at most 128, the first a "
        "letter or digit",
        name
    );
}

Result<Fd> open_regular(int directory, const std::string& name) {
    // Non-blocking: a FIFO in the file's place must not hang us.
    auto fd = open_beneath(directory, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!fd && fd.error().code() == ELOOP)
        return fail(ELOOP, "{}: is a symbolic link, which images must not hold", name);
    if (!fd) return fd;
    struct stat st{};
    if (fstat(fd->get(), &st) < 0) return fail_errno(errno, "{}: stat", name);
    if (!S_ISREG(st.st_mode)) return fail(EBADMSG, "{}: is not a regular file", name);
    THAW_CHECK(set_nonblocking(fd->get(), false));
    return fd;
}

Result<std::uint64_t> size_of(int fd) {
    struct stat st{};
    if (fstat(fd, &st) < 0) return fail_errno(errno, "stat");
    return static_cast<std::uint64_t>(st.st_size);
}

Result<std::string> digest_file(int fd) {
    THAW_TRY(const auto size, size_of(fd));
    std::vector<std::byte> buffer(std::min<std::uint64_t>(kDigestBuffer, size));
    Digest digest;
    for (std::uint64_t at = 0; at < size;) {
        const auto part =
            std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - at));
        THAW_CHECK(pread_exact(fd, part, at));
        digest.add(part);
        at += part.size();
    }
    return digest.hex();
}

Result<unsigned> remove_temporaries(int directory) {
    THAW_TRY(const auto entries, list_directory(directory));
    unsigned removed = 0;
    for (const auto& entry : entries) {
        if (!entry.starts_with(kTemporaryPrefix)) continue;
        if (unlinkat(directory, entry.c_str(), 0) < 0 && errno != ENOENT)
            return fail_errno(errno, "remove {}", entry);
        removed++;
    }
    return removed;
}

Result<Manifest> seal_directory(
    int directory, Manifest given, const Store::Progress& progress, Store::Warnings* warnings,
    const LayerSource* layer
) {
    THAW_CHECK(check_settings(given));
    auto& manifest = given;
    if (manifest.state.name.empty()) manifest.state.name = kDefaultStateFile;
    if (manifest.memory.name.empty()) manifest.memory.name = kDefaultMemoryFile;
    THAW_TRY(const auto state, open_regular(directory, manifest.state.name));
    THAW_TRY(const auto memory, open_regular(directory, manifest.memory.name));
    THAW_TRY(manifest.state.size, size_of(state.get()));
    if (manifest.state.size == 0) return fail(EBADMSG, "{}: is empty", manifest.state.name);
    THAW_TRY(manifest.memory.size, size_of(memory.get()));
    manifest.memory_size = manifest.memory.size;
    THAW_CHECK(check_memory_size(manifest.memory_size, manifest.page_size));
    THAW_TRY(const auto rootfs, open_rootfs(directory, manifest));

    if (manifest.id == ImageId{}) {
        THAW_TRY(manifest.id, random_id());
    }
    manifest.created = now_realtime();
    THAW_TRY(manifest.state.digest, digest_file(state.get()));
    const auto all = manifest.memory_size + (manifest.rootfs ? manifest.rootfs->file.size : 0);
    THAW_CHECK(write_maps(directory, memory.get(), manifest, part_of(progress, 0, all), layer));
    if (manifest.rootfs)
        THAW_CHECK(write_rootfs_map(
            directory, rootfs.get(), manifest.id, *manifest.rootfs,
            part_of(progress, manifest.memory_size, all)
        ));
    THAW_CHECK(sync_fd(state.get(), manifest.state.name));
    THAW_CHECK(sync_fd(memory.get(), manifest.memory.name));
    THAW_CHECK(check_manifest(manifest));

    std::vector fds{directory, state.get(), memory.get()};
    if (rootfs) fds.push_back(rootfs.get());
    std::vector<Fd> written;
    for (const auto* name : made_files(manifest)) {
        THAW_TRY(auto file, open_regular(directory, name));
        fds.push_back(file.get());
        written.push_back(std::move(file));
    }
    THAW_CHECK(protect_files(fds, warnings));
    THAW_CHECK(write_file_atomic_at(
        directory, kManifestFile, format_manifest(manifest), kFileMode, Durability::Disk
    ));
    THAW_TRY(const auto last, open_regular(directory, kManifestFile));
    const std::array late{directory, last.get()};
    THAW_CHECK(protect_files(late, nullptr)); // what there is to say was said above
    THAW_CHECK(sync_fd(directory, "directory"));
    return manifest;
}

} // namespace thaw::image
