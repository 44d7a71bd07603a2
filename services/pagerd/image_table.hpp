// SPDX-License-Identifier: MIT
#pragma once

// Source descriptors of images, each image once however many sessions use it, here and in the
// descriptor store ("IMAGEID.memory", "IMAGEID.map", of a difference "IMAGEID.layers",
// "IMAGEID.base1" and so on, of a remote image "IMAGEID.chunk-view").

#include "core/file.hpp"
#include "stored_fds.hpp"
#include "systemd/notify.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace thaw::pagerd {

// What a worker reads pages from.
struct ImageFiles {
    Fd memory;
    Fd map;                // invalid: pages are not checked
    Fd layers;             // of a difference only, with at least one of `bases`
    std::vector<Fd> bases; // memory files of the images below, nearest first
    // Of a remote image: `memory` is the cache's memfd, and this is the map of its chunks. Both
    // can only be read.
    Fd chunk_view;

    std::size_t count() const {
        return 1 + (map ? 1 : 0) + (layers ? 1 : 0) + bases.size() + (chunk_view ? 1 : 0);
    }
};

struct ImageSource {
    std::string id; // image_key()
    ImageFiles files;
    FileIdentity identity; // of the memory file
    std::size_t users = 0;
};

// What an image is known by: its id, and with a mark when its memory is the cache's, so that one
// that was pulled runs beside VMs of the remote one.
std::string image_key(const std::array<std::uint8_t, 16>& id, bool chunked);
// The id of a key with the mark; nullopt for others.
std::optional<std::string> chunked_image(const std::string& key);

class ImageTable {
public:
    explicit ImageTable(FdStore& store) : store_(store) {}

    bool contains(const std::string& id) const { return images_.contains(id); }
    // Descriptors of all images.
    std::size_t descriptors() const;
    // One more user. The descriptors are stored when the image is new, else dropped; then the file
    // must be the known one (ImageMismatch). The pointer stays valid until release().
    Result<const ImageSource*> acquire(const std::string& id, ImageFiles files);
    // One more user of a known image; nullptr when it is not.
    const ImageSource* acquire_known(const std::string& id);
    // What came back from the store at start, without users yet. Takes what belongs to an image out
    // of `stored`; what is no whole image is removed from the store and named in the error.
    Result<> adopt(const std::string& id, std::map<FdRole, Fd>& stored);
    // The last user's release closes the descriptors and removes them from the store.
    void release(const ImageSource* image);
    // Forgets images nobody took after adopting.
    void drop_unused();

private:
    void remove(const std::string& id);
    Result<> store(const std::string& id, const ImageFiles& files);
    void unstore(const std::string& id, const ImageFiles& files);

    FdStore& store_;
    std::map<std::string, ImageSource> images_;
};

} // namespace thaw::pagerd
