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

constexpr std::string_view kArriving = ".#thaw-memory";

Result<> check_file(int directory, const FileRecord& record) {
    THAW_TRY(const auto file, open_regular(directory, record.name));
    THAW_TRY(const auto size, size_of(file.get()));
    THAW_TRY(const auto digest, digest_file(file.get()));
    if (size != record.size || digest != record.digest)
        return fail(ESTALE, "{}: is not the sealed one", record.name);
    if (fsync(file.get()) < 0) return fail_errno(errno, "fsync {}", record.name);
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
    THAW_CHECK(check_file(directory, manifest.memory_map));
    THAW_TRY(const auto file, open_regular(directory, manifest.memory_map.name));
    THAW_TRY(const auto map, MemoryMap::load(file.get(), manifest.id));
    if (map.page_count() * kMapPageSize != manifest.memory_size)
        return fail(EBADMSG, "memory.map: made for another memory size");
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
    const auto& image = arrival->image_;
    if (!image.manifest.source)
        return fail(EALREADY, "image '{}' has its memory here already", name);
    arrival->source_ = image.manifest.source->memory;
    THAW_TRY(auto map, MemoryMap::load(image.memory_map.get(), image.manifest.id));
    arrival->map_ = std::make_unique<MemoryMap>(std::move(map));
    const int directory = arrival->directory_.get();
    THAW_CHECK(remove_temporaries(directory));
    arrival->temporary_ = kArriving;
    THAW_TRY(
        arrival->memory_,
        open_at(directory, arrival->temporary_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, kFileMode)
    );
    if (ftruncate(arrival->memory_.get(), static_cast<off_t>(image.manifest.memory_size)) < 0)
        return fail_errno(errno, "size the memory file");
    return arrival;
}

Arrival::~Arrival() {
    if (!temporary_.empty()) (void)unlinkat(directory_.get(), temporary_.c_str(), 0);
}

Result<> Arrival::check(std::uint64_t offset, std::uint64_t length) const {
    constexpr std::uint64_t kPiece = 512 << 10;
    std::vector<std::byte> buffer(std::min(kPiece, length));
    for (std::uint64_t done = 0; done < length;) {
        const auto part = std::span(buffer).first(std::min(kPiece, length - done));
        const auto chunk = (offset + done) / kMapChunkSize;
        if (!map_->chunk_is_valid(chunk) ||
            !map_->chunk_is_valid((offset + done + part.size() - 1) / kMapChunkSize))
            return fail(EBADMSG, "memory.map: damaged page list of chunk {}", chunk);
        THAW_CHECK(pread_exact(memory_.get(), part, offset + done));
        THAW_CHECK(check_pages(part, (offset + done) / kMapPageSize, *map_, "memory"));
        done += part.size();
    }
    return {};
}

Result<> Arrival::finish(Store::Warnings* warnings) {
    if (fsync(memory_.get()) < 0) return fail_errno(errno, "fsync the memory file");
    const std::array fds{directory_.get(), memory_.get()};
    THAW_CHECK(protect_files(fds, warnings));
    auto manifest = image_.manifest;
    const int directory = directory_.get();
    // Before the manifest says so: a memory file that it does not speak of harms nobody.
    if (renameat(directory, temporary_.c_str(), directory, manifest.memory.name.c_str()) < 0)
        return fail_errno(errno, "put the memory file in place");
    temporary_.clear();
    manifest.source.reset();
    THAW_CHECK(write_manifest(directory, manifest));
    THAW_TRY(const auto written, open_regular(directory, kManifestFile));
    const std::array late{directory, written.get()};
    THAW_CHECK(protect_files(late, nullptr)); // what there is to say was said above
    if (fsync(directory) < 0) return fail_errno(errno, "fsync the image");
    return {};
}

} // namespace thaw::image
