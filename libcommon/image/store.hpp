// SPDX-License-Identifier: MIT
#pragma once

// Images on disk: directories below the image root (/var/lib/thaw/images), root:thaw-vmm 0750.
// Everything is opened beneath the root without following symlinks.

#include "core/file.hpp"
#include "image/layers.hpp"
#include "image/manifest.hpp"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::image {

// The image has others laid over it, so it cannot be removed.
inline constexpr std::string_view kErrorImageHasLayers = "org.thaw.restore1.Error.ImageHasLayers";

// The image's memory is somewhere else, and this needs it here: `thawctl image pull` fetches it.
inline constexpr std::string_view kErrorImageIsRemote = "org.thaw.restore1.Error.ImageIsRemote";

// An image below a difference, down to the one that holds all of its memory.
struct BaseLayer {
    std::string name;
    ImageId id{};
    Fd memory; // read-only
};

// An opened image: descriptors pin the files, names no longer matter.
struct OpenImage {
    std::string name;
    Manifest manifest;
    Fd directory;
    Fd state;      // read-only
    Fd memory;     // read-only; invalid when the manifest has a source
    Fd memory_map; // read-only
    Fd rootfs;     // read-only; invalid when there is none or the manifest has a source
    Fd rootfs_map; // read-only; invalid when there is none
    // Read-only; invalid when nothing was recorded. Not checked: whoever reads it does that.
    Fd working_set;
    // Of a difference: the file "layers", loaded as well, and the images below, nearest first.
    Fd layers;
    std::optional<LayerTable> layer_table;
    std::vector<BaseLayer> bases;
};

class Store {
public:
    explicit Store(std::string root) : root_(std::move(root)) {}
    const std::string& root() const { return root_; }

    // Opens and checks what can be checked quickly: manifest, sizes, digest of state, memory.map,
    // layers and rootfs.map, and of a difference all images below it. ENOENT no such image; EINVAL
    // bad name; ELOOP a symlink; EBADMSG not sealed or damaged manifest; EPROTONOSUPPORT unknown
    // format; ESTALE a file is not the sealed one (missing, truncated, replaced), or an image below
    // a difference is not the one it was made over. kErrorImageIsRemote (EREMOTE), unless Allow
    // says that the caller can do without the memory's descriptor.
    enum class Remote { Refuse, Allow };
    Result<OpenImage> open(std::string_view name, Remote remote = Remote::Refuse) const;

    struct Entry {
        std::string name;
        Result<Manifest> manifest; // the error says why the image is unusable
        std::uint64_t disk_bytes = 0;
    };
    // Every image below the root, by name; checks manifests and sizes, no content.
    Result<std::vector<Entry>> list() const;

    // done and total in bytes; the total may grow between phases. false cancels (ECANCELED).
    using Progress = std::function<bool(std::uint64_t done, std::uint64_t total)>;
    // Shortcomings that did not stop the operation, for the caller to tell.
    using Warnings = std::vector<std::string>;
    struct Source {
        std::string state_path;
        std::string memory_path;
        std::string rootfs_path; // empty: the image has no root file system
        // Borrowed, in place of the paths; regular files, which are copied.
        int state_fd = -1;
        int memory_fd = -1;
        // Takes the files instead of copying them where the file system allows (hard links), and
        // removes the originals once the image is published; a crash before that leaves them.
        bool move = false;
        // vmm, vmm_version, page_size, drives, vsock_path as given by the admin; what it says of
        // files is not looked at. An id that is not
        // all zeros is the image's, for one that comes from elsewhere; else it gets a new one.
        Manifest manifest;
        // Not empty: the image becomes a difference to the one of that name, without a root file
        // system (EBADMSG). Only the pages of
        // `present` are taken from the memory file, which is as long as the base's memory.
        std::string base;
        std::optional<ImageId> base_id; // ESTALE when the base is another one by now
        PageBitmap present;
        // Not empty: what the digests of state and memory.map must be, ESTALE otherwise.
        std::string state_digest;
        std::string map_digest;
    };
    // Copies (reflink where possible) into a hidden temporary directory, seals it, renames it into
    // place. A crash leaves only the temporary, which the next call or clean() removes.
    // EEXIST when the image exists, EBADMSG for settings or files that cannot be an image, ELOOP
    // for a symlink as source. Ownership is root:thaw-vmm; without that group, or without the
    // right, it is left alone and a warning says so.
    Result<Manifest> import(
        std::string_view name, const Source& source, const Progress& progress,
        Warnings* warnings = nullptr
    ) const;
    // Seals a directory below the root that already holds state and memory files, and a root file
    // system when `given` has one (names in `given`, else the usual ones). EEXIST when it is sealed
    // already, EBUSY when somebody is at it.
    Result<Manifest> seal(
        std::string_view name, const Manifest& given, const Progress& progress,
        Warnings* warnings = nullptr
    ) const;
    // Reads all of memory and root file system against their maps. ESTALE names the first bad page.
    Result<> verify(std::string_view name, const Progress& progress) const;
    // Renames away, then deletes. ENOENT, EINVAL, EBUSY when it is being sealed, or
    // kErrorImageHasLayers (EBUSY) when others are laid over it.
    Result<> remove(std::string_view name) const;
    // Removes temporaries that a crash left; how many.
    Result<unsigned> clean() const;

    // The folder of the images itself.
    Result<Fd> open_root() const;

private:
    std::string root_;
};

} // namespace thaw::image
