// SPDX-License-Identifier: MIT
#pragma once

// A folder on a server, or on a slow file system, as this program sees it: through thaw-fetchd,
// which has the network and the credentials. Every call waits until it is done or Ctrl-C ends it
// (ECANCELED). After an error the object is of no more use.

#include "core/fd.hpp"
#include "event/event.hpp"
#include "fetch/fetch_client.hpp"
#include "image/manifest.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::ctl {

// Where a range is in the source, and in the target too.
struct ByteRange {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

// An object that is there, and what it was when it was found.
struct RemoteObject {
    image::RemoteFile file;
    Fd source; // of a file:// URL
};

class RemoteFolder {
public:
    // Ranges that are fetched at the same time.
    static constexpr std::size_t kAtOnce = 8;
    // Bytes that have come, of all that will; false cancels.
    using Progress = std::function<bool(std::uint64_t done, std::uint64_t total)>;
    // Whether a range that has come is the right one.
    using Check = std::function<Result<>(const ByteRange& range)>;

    // `socket` is thaw-fetchd's.
    static Result<std::unique_ptr<RemoteFolder>> open(const std::string& socket);

    // The URL of a file in a folder, which may end with a slash or not. EINVAL for no URL.
    static Result<std::string> join(const std::string& folder, const std::string& name);

    // What is there now. Nothing: it is not (404, 410, ENOENT).
    Result<std::optional<RemoteObject>> find(const std::string& url);
    // The object that was pinned, for more ranges of it.
    static Result<RemoteObject> pinned(const image::RemoteFile& file);
    // EFBIG beyond `limit`.
    Result<std::string> read(const RemoteObject& object, std::size_t limit);
    // Each range twice, if its check says so the first time.
    Result<> fetch(
        const RemoteObject& object, int target, std::vector<ByteRange> ranges, const Check& check,
        const Progress& progress
    );
    // EOPNOTSUPP for a file:// URL.
    Result<>
    put(const std::string& url, int source, std::uint64_t length, const Progress& progress);

private:
    struct Download;
    explicit RemoteFolder(EventLoop loop) : loop_(std::move(loop)) {}
    Result<> begin(Download& download, const ByteRange& range, unsigned attempt);
    Result<> turn(const Progress& progress, std::uint64_t done, std::uint64_t total);

    EventLoop loop_;
    std::unique_ptr<fetch::FetchClient> client_;
};

} // namespace thaw::ctl
