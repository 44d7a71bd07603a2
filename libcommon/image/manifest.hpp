// SPDX-License-Identifier: MIT
#pragma once

// image.json: what an image is. Pure data; reading and writing files is image/store.hpp's.

#include "core/error.hpp"
#include "protocol/fetch_control.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::image {

inline constexpr std::uint64_t kFormatVersion = 1;
inline constexpr std::uint64_t kDiffFormatVersion = 2;   // of an image with a base
inline constexpr std::uint64_t kRemoteFormatVersion = 3; // of an image with a source
inline constexpr std::size_t kMaxLayers = 8;             // the image itself and its bases
inline constexpr std::uint64_t kPageSize4K = 4096;
inline constexpr std::uint64_t kPageSize2M = 2 << 20;

// Names of the files inside an image's directory.
inline constexpr const char* kManifestFile = "image.json";
inline constexpr const char* kMemoryMapFile = "memory.map";
inline constexpr const char* kAccessLogFile = "access.log";   // optional
inline constexpr const char* kWorkingSetFile = "working-set"; // optional
inline constexpr const char* kLayersFile = "layers";          // with a base
inline constexpr const char* kDefaultMemoryFile = "memory";
inline constexpr const char* kDefaultStateFile = "vmstate";
inline constexpr const char* kRootfsFile = "rootfs";        // optional
inline constexpr const char* kRootfsMapFile = "rootfs.map"; // with a rootfs

using ImageId = std::array<std::uint8_t, 16>; // random, made when the image is sealed

struct FileRecord {
    std::string name;       // one path component inside the image
    std::uint64_t size = 0; // bytes
    // XXH3-128 as hex digits: of the content; only the memory file has that of its memory.map,
    // which holds a checksum of every page.
    std::string digest;
};

// A root file system that belongs to the image: what its VMs' overlays lie over.
struct RootfsRecord {
    FileRecord file;
    FileRecord map; // as memory.map, over `file`; rootfs_id() is the id in it
};

struct Drive {
    std::string id;
    std::string path; // as the snapshot names it: relative ones resolve in the VM's directory
    bool read_only = false;
    bool shared = false; // may be used by several VMs at once (then it must be read_only)
};

// The image whose memory a difference is laid over.
struct BaseImage {
    std::string name;
    ImageId id{};
};

// A file of the image that stays where it is: http(s):// or, on a slow file system, file://.
struct RemoteFile {
    std::string url;
    // What it was when the image was added, for as long as the image is there (a file's is
    // fetch::file_identity()).
    protocol::SourceIdentity identity;
};
// Where an image has its memory, if not in its folder.
struct RemoteSource {
    RemoteFile memory;
    std::optional<RemoteFile> rootfs; // of an image that has one
};

struct Manifest {
    ImageId id{};
    std::string vmm = "firecracker"; // which VMM wrote it
    std::string vmm_version;         // may be empty: unknown
    std::uint64_t memory_size = 0;   // bytes
    std::uint64_t page_size = kPageSize4K;
    FileRecord state;
    FileRecord memory;
    FileRecord memory_map;
    // A difference: the memory file holds some pages only, `layers` says which (layers.hpp).
    // memory.map describes the whole memory all the same.
    std::optional<BaseImage> base;
    FileRecord layers;                  // only with a base
    std::optional<RootfsRecord> rootfs; // never with a base
    // The folder has no memory file and no rootfs; `memory` and `rootfs` say what they would be.
    // Never with a base.
    std::optional<RemoteSource> source;
    std::vector<Drive> drives;
    std::string vsock_path;    // empty: none
    std::uint64_t created = 0; // µs since the epoch
};

// The path that a file:// URL names; nothing for any other.
std::optional<std::string> path_of_url(std::string_view url);

std::string format_id(const ImageId& id); // 32 hex digits
Result<ImageId> parse_id(std::string_view text);
// The id inside the rootfs.map of the image `image`. It is another one, so that neither of the two
// maps of an image is ever taken for the other, and that what is kept by id (the pager's cache of
// chunks) keeps memory and root file system apart.
ImageId rootfs_id(const ImageId& image);
// The digest as bytes. EBADMSG when it is none.
Result<std::array<std::uint8_t, 16>> digest_bytes(const FileRecord& record);

// EPROTONOSUPPORT for an unknown format version, EBADMSG otherwise; the message names the member.
Result<Manifest> parse_manifest(std::string_view json);
std::string format_manifest(const Manifest& manifest);

// What an admin may choose: page size, VMM, drives (a shared one must be read-only), paths. Paths
// reach unit files and VMM requests, so '..' and control characters are refused. EBADMSG.
Result<> check_settings(const Manifest& manifest);
// The memory file's size: not 0, whole pages. EBADMSG.
Result<> check_memory_size(std::uint64_t memory_size, std::uint64_t page_size);
// The same for a root file system, in pages of 4 KiB.
Result<> check_rootfs_size(std::uint64_t size);
// Everything that parse_manifest() refuses. EBADMSG.
Result<> check_manifest(const Manifest& manifest);

} // namespace thaw::image
