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
#include <utility>
#include <vector>

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
    // Compares state and maps with `manifest`, which has a source, writes it and makes the image
    // appear. ESTALE names the file that is not the sealed one.
    Result<> publish(const Manifest& manifest, Store::Warnings* warnings);

private:
    Draft(std::string name, Fd root, Staging staging)
        : name_(std::move(name)), root_(std::move(root)), staging_(std::move(staging)) {}
    std::string name_;
    Fd root_;
    Staging staging_;
};

// A file of a remote image that is coming.
class ArrivingFile {
public:
    // Where it is so far.
    const RemoteFile& source() const { return source_; }
    const MemoryMap& map() const { return map_; }
    std::uint64_t size() const { return record_.size; }
    // Of its size and all zero; to be written by whoever fetches.
    int fd() const { return file_.get(); }
    // Bytes [offset, offset + length), whole pages, are the sealed ones. ESTALE names the first
    // page that is not.
    Result<> check(std::uint64_t offset, std::uint64_t length) const;

private:
    friend class Arrival;
    // `what` is "memory" or "rootfs".
    ArrivingFile(FileRecord record, RemoteFile source, MemoryMap map, std::string_view what)
        : record_(std::move(record)), source_(std::move(source)), map_(std::move(map)),
          what_(what) {}
    Result<> create(int directory);
    FileRecord record_;
    RemoteFile source_;
    MemoryMap map_;
    std::string_view what_;
    std::string temporary_; // its name; empty once it is in place
    Fd file_;
};

// A remote image that is becoming a local one. It stays what it was until finish(); a crash leaves
// only temporary files, which Store::clean() removes.
class Arrival {
public:
    // EALREADY when the image is local; EBUSY when somebody is at it; else as Store::open().
    static Result<std::unique_ptr<Arrival>> begin(const Store& store, std::string_view name);
    ~Arrival();
    Arrival(const Arrival&) = delete;
    Arrival& operator=(const Arrival&) = delete;

    // The memory, then the root file system if there is one.
    const std::vector<ArrivingFile>& files() const { return files_; }
    // Every page of all files was checked: the image is local from here on.
    Result<> finish(Store::Warnings* warnings);

private:
    Arrival() = default;
    Result<> create_files(const RemoteSource& source);
    Fd directory_; // holds the lock
    OpenImage image_;
    std::vector<ArrivingFile> files_;
};

} // namespace thaw::image
