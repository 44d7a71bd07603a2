// SPDX-License-Identifier: MIT
#pragma once

// Source descriptors of images, each image once however many sessions use it, here and in the
// descriptor store ("IMAGEID.memory", "IMAGEID.map").

#include "core/file.hpp"
#include "systemd/notify.hpp"

#include <cstddef>
#include <map>
#include <string>

namespace thaw::pagerd {

struct ImageSource {
    std::string id; // hex
    Fd memory;
    Fd map; // invalid: pages are not checked
    FileIdentity identity;
    std::size_t users = 0;
};

class ImageTable {
public:
    explicit ImageTable(FdStore& store) : store_(store) {}

    bool contains(const std::string& id) const { return images_.contains(id); }
    std::size_t size() const { return images_.size(); }
    // One more user. The descriptors are stored when the image is new, else dropped; then the file
    // must be the known one (ImageMismatch). The pointer stays valid until release().
    Result<const ImageSource*> acquire(const std::string& id, Fd memory, Fd map);
    // One more user of a known image; nullptr when it is not.
    const ImageSource* acquire_known(const std::string& id);
    // What came back from the store at start, without users yet.
    Result<> adopt(const std::string& id, Fd memory, Fd map);
    // The last user's release closes the descriptors and removes them from the store.
    void release(const ImageSource* image);
    // Forgets images nobody took after adopting.
    void drop_unused();

private:
    void remove(const std::string& id);

    FdStore& store_;
    std::map<std::string, ImageSource> images_;
};

} // namespace thaw::pagerd
