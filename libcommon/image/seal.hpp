// SPDX-License-Identifier: MIT
#pragma once

// What Store's operations share: opening files of an image and sealing a directory.

#include "core/fd.hpp"
#include "image/manifest.hpp"
#include "image/memory_map.hpp"
#include "image/store.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace thaw::image {

inline constexpr const char* kImageGroup = "thaw-vmm";
inline constexpr unsigned kDirectoryMode = 0750;
inline constexpr unsigned kFileMode = 0640;
// Names of files inside an image that are not whole yet; Store::clean() removes them.
inline constexpr std::string_view kTemporaryPrefix = ".#thaw";

// EINVAL unless `name` may name an image.
Result<> check_image_name(std::string_view name);
// A regular file inside an image, read-only. ELOOP for a symlink, ENOENT, EBADMSG for anything
// that is no regular file.
Result<Fd> open_regular(int directory, const std::string& name);
// XXH3-128 of a whole file as hex digits.
Result<std::string> digest_file(int fd);
Result<std::uint64_t> size_of(int fd);

// Removes what an interrupted write_file_atomic_at() left in `directory`; how many.
Result<unsigned> remove_temporaries(int directory);
// The manifest of a sealed image.
Result<Manifest> load_manifest(int directory);
// The directory of an image: ENOENT, ELOOP for a symlink, EBADMSG for anything else.
Result<Fd> open_image_directory(int root, const std::string& name);
// As Store::open().
Result<OpenImage>
open_image(int root, std::string_view name, Store::Remote remote = Store::Remote::Refuse);

// Owner and modes of an image's directory (the first) and its files.
Result<> protect_files(std::span<const int> fds, Store::Warnings* warnings);
// The image's directory, locked against others who change it. ENOENT, ELOOP, EBUSY.
Result<Fd> lock_image(int root, std::string_view name);
// Whole pages from page `first` on are the sealed ones. ESTALE names the first that is not; `what`
// is the file, "memory" or "rootfs".
Result<> check_pages(
    std::span<const std::byte> bytes, std::uint64_t first, const MemoryMap& map,
    std::string_view what
);
// The part of `progress` that begins after `before` of `all` bytes. `progress` outlives it.
Store::Progress part_of(const Store::Progress& progress, std::uint64_t before, std::uint64_t all);

// What a difference is made of. All of it outlives the call.
struct LayerSource {
    const OpenImage& base;
    const PageBitmap& present;
    int memory_fd; // the VMM's: pages at their place in the memory
    int target_fd; // the image's memory file, empty and writable
};
// An id in `given` is kept, one of zeros replaced by a new one.
// Reads state, memory and rootfs (when `given` has one), writes the maps, sets ownership and modes,
// writes the manifest last: with it the image exists. With `layer` the image is a difference: its
// memory file is filled first. progress() gets the sum of memory and rootfs as total.
Result<Manifest> seal_directory(
    int directory, Manifest given, const Store::Progress& progress, Store::Warnings* warnings,
    const LayerSource* layer = nullptr
);

} // namespace thaw::image
