// SPDX-License-Identifier: MIT
#pragma once

// Images whose files come from somewhere else: made of a folder on a server, and made local again.
// Who fetches is not of interest here; nothing counts before it is checked.

#include "image/memory_map.hpp"
#include "image/staging.hpp"
#include "image/store.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace thaw::image {

// A new image that is being filled. Dropped without publish(), nothing is left of it.
class Draft {
public:
    // EEXIST when the image exists, EINVAL for a bad name.
    static Result<std::unique_ptr<Draft>> create(const Store& store, std::string_view name);

    // An empty file in it, to be written.
    Result<Fd> make_file(const std::string& name) const;
    // For a file that came to nothing.
    void drop_file(const std::string& name) const;
    // Compares state and memory.map with `manifest`, which has a source, writes it and makes the
    // image appear. ESTALE names the file that is not the sealed one.
    Result<> publish(const Manifest& manifest, Store::Warnings* warnings);

private:
    Draft(std::string name, Fd root, Staging staging)
        : name_(std::move(name)), root_(std::move(root)), staging_(std::move(staging)) {}
    std::string name_;
    Fd root_;
    Staging staging_;
};

// A remote image that is becoming a local one. It stays what it was until finish(); a crash leaves
// only a temporary file, which Store::clean() removes.
class Arrival {
public:
    // EALREADY when the image is local; EBUSY when somebody is at it; else as Store::open().
    static Result<std::unique_ptr<Arrival>> begin(const Store& store, std::string_view name);
    ~Arrival();
    Arrival(const Arrival&) = delete;
    Arrival& operator=(const Arrival&) = delete;

    const Manifest& manifest() const { return image_.manifest; }
    // Where the memory is so far.
    const RemoteFile& source() const { return source_; }
    const MemoryMap& map() const { return *map_; }
    // As long as the memory and all zero; to be written by whoever fetches.
    int memory() const { return memory_.get(); }
    // Bytes [offset, offset + length) of the memory, whole pages, are the sealed ones. ESTALE names
    // the first page that is not.
    Result<> check(std::uint64_t offset, std::uint64_t length) const;
    // Every page was checked: the image is local from here on.
    Result<> finish(Store::Warnings* warnings);

private:
    Arrival() = default;
    Fd directory_; // holds the lock
    OpenImage image_;
    RemoteFile source_;
    std::unique_ptr<MemoryMap> map_;
    std::string temporary_; // name of the file below the directory; empty once finished
    Fd memory_;
};

} // namespace thaw::image
