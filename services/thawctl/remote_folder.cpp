// SPDX-License-Identifier: MIT
#include "remote_folder.hpp"

#include "core/file.hpp"
#include "fetch/file_identity.hpp"
#include "interrupt.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>

namespace thaw::ctl {

namespace {

// How long Ctrl-C may go unnoticed.
constexpr Microseconds kTurn = 100 * kUsecPerMsec;
constexpr unsigned kAttempts = 2; // of a range that comes wrong

} // namespace

// One fetch() under way.
struct RemoteFolder::Download {
    const RemoteObject& object;
    int target;
    const Check& check;
    std::vector<ByteRange> left; // the next one is the last
    std::size_t running = 0;
    std::uint64_t finished = 0;                         // bytes of checked ranges
    std::map<std::uint64_t, std::uint64_t> landed = {}; // of those under way, by offset
    std::optional<Error> failed = {};

    std::uint64_t done() const {
        auto sum = finished;
        for (const auto& [offset, bytes] : landed)
            sum += bytes;
        return sum;
    }
};

Result<std::unique_ptr<RemoteFolder>> RemoteFolder::open(const std::string& socket) {
    THAW_TRY(auto loop, EventLoop::create());
    std::unique_ptr<RemoteFolder> folder(new RemoteFolder(std::move(loop)));
    THAW_TRY(folder->client_, fetch::FetchClient::create(folder->loop_, socket));
    return folder;
}

Result<std::string> RemoteFolder::join(const std::string& folder, const std::string& name) {
    const bool known = folder.starts_with("https://") || folder.starts_with("http://") ||
                       image::path_of_url(folder);
    if (!known || folder.find_first_of(" ?#") != std::string::npos)
        return fail(EINVAL, "'{}' is not a URL of https, http or file", folder);
    return folder + (folder.ends_with('/') ? "" : "/") + name;
}

Result<RemoteObject> RemoteFolder::pinned(const image::RemoteFile& file) {
    RemoteObject object{.file = file, .source = {}};
    if (const auto path = image::path_of_url(file.url)) {
        THAW_TRY(object.source, open_file(*path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
    }
    return object;
}

Result<> RemoteFolder::turn(const Progress& progress, std::uint64_t done, std::uint64_t total) {
    THAW_CHECK(loop_.run_once(kTurn));
    if (was_interrupted() || (progress && !progress(done, total)))
        return fail(ECANCELED, "canceled");
    return {};
}

Result<std::optional<RemoteObject>> RemoteFolder::find(const std::string& url) {
    if (image::path_of_url(url)) {
        auto object = pinned({.url = url, .identity = {}});
        if (!object && object.error().code() == ENOENT) return std::optional<RemoteObject>();
        if (!object) return std::unexpected(std::move(object).error());
        THAW_TRY(object->file.identity, fetch::file_identity(object->source.get()));
        return std::optional(std::move(*object));
    }
    std::optional<fetch::FetchEnd> end;
    THAW_CHECK(client_->probe(url, [&end](fetch::FetchEnd got) { end = std::move(got); }));
    while (!end)
        if (auto turned = turn({}, 0, 0); !turned) {
            client_.reset(); // `end` is about to go
            return std::unexpected(std::move(turned).error());
        }
    if (end->result)
        return std::optional(RemoteObject{.file = {url, std::move(end->identity)}, .source = {}});
    if (end->result.error().code() == ENOENT) return std::optional<RemoteObject>();
    return std::unexpected(std::move(end->result).error().with_context(url));
}

Result<std::string> RemoteFolder::read(const RemoteObject& object, std::size_t limit) {
    const auto length = object.file.identity.length;
    if (length > limit)
        return fail(EFBIG, "{}: {} bytes are more than {}", object.file.url, length, limit);
    if (length == 0) return std::string();
    const Fd memory(::memfd_create("thawctl", MFD_CLOEXEC));
    if (!memory) return fail_errno(errno, "make a memory file");
    THAW_CHECK(fetch(object, memory.get(), {{0, length}}, {}, {}));
    std::string text(length, '\0');
    THAW_CHECK(pread_exact(memory.get(), std::as_writable_bytes(std::span(text)), 0));
    return text;
}

Result<> RemoteFolder::begin(Download& download, const ByteRange& range, unsigned attempt) {
    const auto on_end = [this, &download, range, attempt](const fetch::FetchEnd& end) {
        --download.running;
        download.landed.erase(range.offset);
        if (download.failed) return;
        auto good = end.result;
        if (good && download.check) good = download.check(range);
        if (good) {
            download.finished += range.length;
            return;
        }
        const bool wrong = end.result.has_value(); // all there, and not what it should be
        if (wrong && attempt < kAttempts) good = begin(download, range, attempt + 1);
        if (!good) download.failed = std::move(good).error();
    };
    const auto on_progress = [&download, offset = range.offset](std::uint64_t bytes) {
        download.landed[offset] = bytes;
    };
    const fetch::FetchRequest request{
        .url = download.object.source ? "" : download.object.file.url,
        .source = download.object.source.get(),
        .identity = download.object.file.identity,
        .offset = range.offset,
        .length = range.length,
        .target = download.target,
        .target_offset = range.offset,
    };
    THAW_CHECK(client_->fetch(request, on_progress, on_end));
    ++download.running;
    return {};
}

Result<> RemoteFolder::fetch(
    const RemoteObject& object, int target, std::vector<ByteRange> ranges, const Check& check,
    const Progress& progress
) {
    std::uint64_t total = 0;
    for (const auto& range : ranges)
        total += range.length;
    std::ranges::reverse(ranges);
    Download download{
        .object = object, .target = target, .check = check, .left = std::move(ranges)
    };
    while (!download.failed && (download.running > 0 || !download.left.empty())) {
        Result<> good;
        while (good && download.running < kAtOnce && !download.left.empty()) {
            good = begin(download, download.left.back(), 1);
            download.left.pop_back();
        }
        if (good) good = turn(progress, download.done(), total);
        if (!good) download.failed = std::move(good).error();
    }
    if (!download.failed) return {};
    // Whatever is under way has references to `download`.
    client_.reset();
    return std::unexpected(std::move(*download.failed).with_context(object.file.url));
}

Result<> RemoteFolder::put(
    const std::string& url, int source, std::uint64_t length, const Progress& progress
) {
    if (image::path_of_url(url))
        return fail(EOPNOTSUPP, "{}: files are copied there with cp(1)", url);
    std::optional<fetch::FetchEnd> end;
    std::uint64_t sent = 0;
    const auto on_progress = [&sent](std::uint64_t bytes) { sent = bytes; };
    const auto on_end = [&end](fetch::FetchEnd got) { end = std::move(got); };
    THAW_CHECK(client_->put(url, source, length, on_progress, on_end));
    while (!end)
        if (auto turned = turn(progress, sent, length); !turned) {
            client_.reset(); // `end` is about to go
            return turned;
        }
    if (end->result) return {};
    return std::unexpected(std::move(end->result).error().with_context(url));
}

} // namespace thaw::ctl
