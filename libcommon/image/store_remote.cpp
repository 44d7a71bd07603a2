// SPDX-License-Identifier: MIT
#include "image/store_remote.hpp"

#include "image/listing.hpp"
#include "image/seal.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <vector>

namespace thaw::image {

namespace {

Result<> check_file(int directory, const FileRecord& record) {
    THAW_TRY(const auto file, open_regular(directory, record.name));
    THAW_TRY(const auto size, size_of(file.get()));
    THAW_TRY(const auto digest, digest_file(file.get()));
    if (size != record.size || digest != record.digest)
        return fail(ESTALE, "{}: is not the sealed one", record.name);
    if (fsync(file.get()) < 0) return fail_errno(errno, "fsync {}", record.name);
    return {};
}

// A map of a file of `size` bytes that is not here.
Result<> check_map(int directory, const FileRecord& record, const ImageId& id, std::uint64_t size) {
    THAW_CHECK(check_file(directory, record));
    THAW_TRY(const auto file, open_regular(directory, record.name));
    THAW_TRY(const auto map, MemoryMap::load(file.get(), id, record.name));
    if (map.page_count() * kMapPageSize != size)
        return fail(EBADMSG, "{}: made for another size", record.name);
    return {};
}

// The directory, then everything in it.
Result<> protect_all(int directory, Store::Warnings* warnings) {
    THAW_TRY(const auto names, list_directory(directory));
    std::vector<Fd> files;
    std::vector<int> fds{directory};
    for (const auto& name : names) {
        THAW_TRY(auto file, open_regular(directory, name));
        fds.push_back(file.get());
        files.push_back(std::move(file));
    }
    return protect_files(fds, warnings);
}

Result<> write_manifest(int directory, const Manifest& manifest) {
    return write_file_atomic_at(
        directory, kManifestFile, format_manifest(manifest), kFileMode, Durability::Disk
    );
}

} // namespace

Result<std::unique_ptr<Draft>> Draft::create(const Store& store, std::string_view name) {
    THAW_CHECK(check_image_name(name));
    THAW_TRY(auto root, store.open_root());
    THAW_CHECK(clean_leftovers(root.get(), store.root()));
    std::string entry(name);
    struct stat st{};
    if (fstatat(root.get(), entry.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0)
        return fail(EEXIST, "image '{}' exists", name);
    THAW_TRY(auto staging, Staging::create(root.get(), store.root(), name));
    return std::unique_ptr<Draft>(new Draft(std::move(entry), std::move(root), std::move(staging)));
}

Result<Fd> Draft::make_file(const std::string& name) const {
    return open_at(staging_.directory(), name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, kFileMode);
}

void Draft::drop_file(const std::string& name) const {
    (void)unlinkat(staging_.directory(), name.c_str(), 0);
}

Result<> Draft::publish(const Manifest& manifest, Store::Warnings* warnings) {
    THAW_CHECK(check_manifest(manifest));
    const int directory = staging_.directory();
    THAW_CHECK(check_file(directory, manifest.state));
    THAW_CHECK(check_map(directory, manifest.memory_map, manifest.id, manifest.memory_size));
    if (const auto& rootfs = manifest.rootfs)
        THAW_CHECK(check_map(directory, rootfs->map, rootfs_id(manifest.id), rootfs->file.size));
    THAW_CHECK(write_manifest(directory, manifest));
    THAW_CHECK(protect_all(directory, warnings));
    if (fsync(directory) < 0) return fail_errno(errno, "fsync image '{}'", name_);
    return staging_.publish(name_);
}

Result<std::unique_ptr<Arrival>> Arrival::begin(const Store& store, std::string_view name) {
    THAW_CHECK(check_image_name(name));
    std::unique_ptr<Arrival> arrival(new Arrival);
    THAW_TRY(const auto root, store.open_root());
    THAW_TRY(arrival->directory_, lock_image(root.get(), name));
    THAW_TRY(arrival->image_, open_image(root.get(), name, Store::Remote::Allow));
    const auto& source = arrival->image_.manifest.source;
    if (!source) return fail(EALREADY, "image '{}' has its memory here already", name);
    THAW_CHECK(remove_temporaries(arrival->directory_.get()));
    THAW_CHECK(arrival->create_files(*source));
    return arrival;
}

Result<> Arrival::create_files(const RemoteSource& source) {
    const auto& manifest = image_.manifest;
    THAW_TRY(auto map, MemoryMap::load(image_.memory_map.get(), manifest.id));
    files_.push_back({manifest.memory, source.memory, std::move(map), "memory"});
    THAW_CHECK(files_.back().create(directory_.get()));
    if (!manifest.rootfs || !source.rootfs) return {};
    const auto& [file, map_file] = *manifest.rootfs;
    const auto id = rootfs_id(manifest.id);
    THAW_TRY(auto rootfs_map, MemoryMap::load(image_.rootfs_map.get(), id, map_file.name));
    files_.push_back({file, *source.rootfs, std::move(rootfs_map), "rootfs"});
    return files_.back().create(directory_.get());
}

Arrival::~Arrival() {
    for (const auto& file : files_)
        if (!file.temporary_.empty()) (void)unlinkat(directory_.get(), file.temporary_.c_str(), 0);
}

Result<> ArrivingFile::create(int directory) {
    if (map_.page_count() * kMapPageSize != record_.size)
        return fail(EBADMSG, "{}.map: made for another size", what_);
    temporary_ = fmt::format("{}-{}", kTemporaryPrefix, what_);
    THAW_TRY(
        file_, open_at(directory, temporary_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, kFileMode)
    );
    if (ftruncate(file_.get(), static_cast<off_t>(record_.size)) < 0)
        return fail_errno(errno, "{}: set size", record_.name);
    return {};
}

Result<> ArrivingFile::check(std::uint64_t offset, std::uint64_t length) const {
    constexpr std::uint64_t kPiece = 512 << 10;
    std::vector<std::byte> buffer(std::min(kPiece, length));
    for (std::uint64_t done = 0; done < length;) {
        const auto part = std::span(buffer).first(std::min(kPiece, length - done));
        const auto chunk = (offset + done) / kMapChunkSize;
        if (!map_.chunk_is_valid(chunk) ||
            !map_.chunk_is_valid((offset + done + part.size() - 1) / kMapChunkSize))
            return fail(EBADMSG, "{}.map: damaged page list of chunk {}", what_, chunk);
        THAW_CHECK(pread_exact(file_.get(), part, offset + done));
        THAW_CHECK(check_pages(part, (offset + done) / kMapPageSize, map_, what_));
        done += part.size();
    }
    return {};
}

Result<> Arrival::finish(Store::Warnings* warnings) {
    const int directory = directory_.get();
    std::vector<int> fds{directory};
    for (const auto& file : files_) {
        if (fsync(file.fd()) < 0) return fail_errno(errno, "fsync {}", file.record_.name);
        fds.push_back(file.fd());
    }
    THAW_CHECK(protect_files(fds, warnings));
    // Before the manifest says so: files that it does not speak of harm nobody.
    for (auto& file : files_) {
        const auto& name = file.record_.name;
        if (renameat(directory, file.temporary_.c_str(), directory, name.c_str()) < 0)
            return fail_errno(errno, "{}: put it in place", name);
        file.temporary_.clear();
    }
    auto manifest = image_.manifest;
    manifest.source.reset();
    THAW_CHECK(write_manifest(directory, manifest));
    THAW_TRY(const auto written, open_regular(directory, kManifestFile));
    const std::array late{directory, written.get()};
    THAW_CHECK(protect_files(late, nullptr)); // what there is to say was said above
    if (fsync(directory) < 0) return fail_errno(errno, "fsync the image");
    return {};
}

} // namespace thaw::image
