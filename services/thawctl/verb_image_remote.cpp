// SPDX-License-Identifier: MIT

// image add-remote, pull, push.

#include "exit_codes.hpp"
#include "guard_view.hpp"
#include "image/seal.hpp"
#include "image/store_remote.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "remote_folder.hpp"
#include "verbs.hpp"
#include "with_progress.hpp"

#include <fcntl.h>

#include <algorithm>

namespace thaw::ctl {

namespace {

constexpr std::size_t kMostManifest = 1 << 20;
constexpr std::uint64_t kMostState = std::uint64_t{1} << 30; // of a state file

// What is fetched at once.
constexpr std::uint64_t kPiece = image::kMapChunkSize;

std::vector<ByteRange> pieces_of(std::uint64_t length) {
    std::vector<ByteRange> ranges;
    for (std::uint64_t at = 0; at < length; at += kPiece)
        ranges.push_back({at, std::min(kPiece, length - at)});
    return ranges;
}

// The pages that are not all zero, in pieces.
std::vector<ByteRange> data_of(const image::MemoryMap& map) {
    std::vector<ByteRange> ranges;
    for (std::uint64_t page = 0; page < map.page_count();) {
        const auto room = image::kPagesPerChunk - page % image::kPagesPerChunk;
        const auto run = map.run_length(page, std::min(room, map.page_count() - page));
        if (!map.is_zero(page))
            ranges.push_back({page * image::kMapPageSize, run * image::kMapPageSize});
        page += run;
    }
    return ranges;
}

std::uint64_t bytes_of(const std::vector<ByteRange>& ranges) {
    std::uint64_t bytes = 0;
    for (const auto& range : ranges)
        bytes += range.length;
    return bytes;
}

Result<RemoteObject> must_find(RemoteFolder& remote, const std::string& url) {
    THAW_TRY(auto found, remote.find(url));
    if (!found) return fail(ENOENT, "{}: there is no such thing", url);
    return *std::move(found);
}

// A sealed image that can be used from afar.
Result<image::Manifest> fetch_manifest(RemoteFolder& remote, const std::string& folder) {
    THAW_TRY(const auto url, RemoteFolder::join(folder, image::kManifestFile));
    THAW_TRY(const auto object, must_find(remote, url));
    THAW_TRY(const auto text, remote.read(object, kMostManifest));
    auto manifest = image::parse_manifest(text);
    if (!manifest) return std::unexpected(std::move(manifest).error().with_context(url));
    if (manifest->base || manifest->source)
        return fail(EOPNOTSUPP, "{}: is a difference, or remote itself", url);
    return manifest;
}

Result<> fetch_file(
    RemoteFolder& remote, const image::Draft& draft, const RemoteObject& object,
    const std::string& name
) {
    THAW_TRY(const auto target, draft.make_file(name));
    return remote.fetch(object, target.get(), pieces_of(object.file.identity.length), {}, {});
}

// State and maps; what differs from the manifest is found when the draft is published.
Result<> fetch_record(
    RemoteFolder& remote, const image::Draft& draft, const std::string& folder,
    const image::FileRecord& record, std::uint64_t most
) {
    THAW_TRY(const auto url, RemoteFolder::join(folder, record.name));
    THAW_TRY(const auto object, must_find(remote, url));
    const auto length = object.file.identity.length;
    if (length != record.size || length > most)
        return fail(ESTALE, "{}: {} bytes, sealed with {}", url, length, record.size);
    return fetch_file(remote, draft, object, record.name);
}

// What a recording left, if it did. Whoever reads it checks it.
Result<> fetch_extra(
    RemoteFolder& remote, const image::Draft& draft, const std::string& folder, const char* name,
    std::uint64_t most
) {
    THAW_TRY(const auto url, RemoteFolder::join(folder, name));
    THAW_TRY(const auto object, remote.find(url));
    if (!object || object->file.identity.length == 0 || object->file.identity.length > most)
        return {};
    return fetch_file(remote, draft, *object, name);
}

Result<image::RemoteFile>
pin(RemoteFolder& remote, const std::string& folder, const std::string& name) {
    THAW_TRY(const auto url, RemoteFolder::join(folder, name));
    THAW_TRY(const auto object, must_find(remote, url));
    if (object.file.identity.etag.empty() && object.file.identity.last_modified.empty())
        print_warning(
            url + ": the server gives neither ETag nor date, so a change of it is found "
                  "by checksums only"
        );
    return object.file;
}

Result<image::Manifest>
add_remote(const ImageArguments& arguments, image::Store::Warnings& warnings) {
    const InterruptGuard guard;
    const image::Store store(arguments.root);
    THAW_TRY(const auto remote, RemoteFolder::open(arguments.fetch_socket));
    THAW_TRY(const auto draft, image::Draft::create(store, arguments.name));
    THAW_TRY(auto manifest, fetch_manifest(*remote, arguments.url));
    const auto& folder = arguments.url;
    image::RemoteSource source;
    THAW_TRY(source.memory, pin(*remote, folder, manifest.memory.name));
    if (manifest.rootfs) {
        THAW_TRY(source.rootfs, pin(*remote, folder, manifest.rootfs->file.name));
    }
    manifest.source = std::move(source);
    THAW_CHECK(image::check_manifest(manifest));
    THAW_CHECK(fetch_record(*remote, *draft, folder, manifest.memory_map, manifest.memory_size));
    if (const auto& rootfs = manifest.rootfs)
        THAW_CHECK(fetch_record(*remote, *draft, folder, rootfs->map, rootfs->file.size));
    THAW_CHECK(fetch_record(*remote, *draft, folder, manifest.state, kMostState));
    for (const char* name : {image::kAccessLogFile, image::kWorkingSetFile})
        THAW_CHECK(fetch_extra(*remote, *draft, folder, name, 2 * manifest.memory_size));
    THAW_CHECK(draft->publish(manifest, &warnings));
    return manifest;
}

int report(const std::string& said, const image::Manifest& manifest, const OutputOptions& options) {
    if (options.json != JsonMode::Off)
        print_json(nlohmann::json::parse(image::format_manifest(manifest)), options.json);
    else
        fmt::print("{}\n", said);
    return kExitOk;
}

void log_image(std::string_view id, const std::string& name, const std::string& url) {
    log_event(
        LogLevel::Info, id, {{"THAW_IMAGE", name}, {"THAW_URL", url}}, "image {}: {}", name, url
    );
}

// Everything a server needs to have before image.json makes an image of it.
struct Upload {
    std::string name;
    Fd file;
    std::uint64_t size = 0;
};

Result<std::vector<Upload>> uploads_of(const image::OpenImage& opened) {
    std::vector<Upload> uploads;
    const auto& manifest = opened.manifest;
    std::vector<std::string> names{manifest.memory.name};
    if (const auto& rootfs = manifest.rootfs)
        names.insert(names.end(), {rootfs->file.name, rootfs->map.name});
    names.insert(names.end(), {manifest.memory_map.name, manifest.state.name});
    for (const char* name : {image::kAccessLogFile, image::kWorkingSetFile})
        names.emplace_back(name);
    names.emplace_back(image::kManifestFile);
    for (const auto& name : names) {
        auto file = image::open_regular(opened.directory.get(), name);
        if (!file && file.error().code() == ENOENT) continue; // nothing was recorded
        if (!file) return std::unexpected(std::move(file).error());
        THAW_TRY(const auto size, image::size_of(file->get()));
        uploads.push_back({name, std::move(*file), size});
    }
    return uploads;
}

Result<> push_all(
    RemoteFolder& remote, const image::OpenImage& opened, const std::string& folder,
    const RemoteFolder::Progress& progress
) {
    THAW_TRY(const auto uploads, uploads_of(opened));
    std::uint64_t total = 0;
    std::uint64_t before = 0;
    for (const auto& upload : uploads)
        total += upload.size;
    for (const auto& upload : uploads) {
        THAW_TRY(const auto url, RemoteFolder::join(folder, upload.name));
        THAW_CHECK(remote.put(
            url, upload.file.get(), upload.size,
            [&](std::uint64_t sent, std::uint64_t) { return progress(before + sent, total); }
        ));
        THAW_TRY(const auto there, must_find(remote, url));
        if (there.file.identity.length != upload.size)
            return fail(
                EIO, "{}: {} bytes arrived of {}", url, there.file.identity.length, upload.size
            );
        before += upload.size;
    }
    return {};
}

// `bytes`: of all files together.
Result<> pull_all(
    RemoteFolder& remote, const image::Arrival& arrival, std::uint64_t bytes,
    const RemoteFolder::Progress& progress
) {
    std::uint64_t before = 0;
    for (const auto& file : arrival.files()) {
        const auto ranges = data_of(file.map());
        THAW_TRY(const auto object, RemoteFolder::pinned(file.source()));
        const auto check = [&](const ByteRange& range) {
            return file.check(range.offset, range.length);
        };
        THAW_CHECK(
            remote.fetch(object, file.fd(), ranges, check, image::part_of(progress, before, bytes))
        );
        before += bytes_of(ranges);
    }
    return {};
}

} // namespace

Result<int> verb_image_add_remote(const ImageArguments& arguments, const OutputOptions& options) {
    image::Store::Warnings warnings;
    auto manifest = add_remote(arguments, warnings);
    if (!manifest) return std::unexpected(std::move(manifest).error());
    for (const auto& warning : warnings)
        print_warning(warning);
    log_image(message_id::kImageAdded, arguments.name, arguments.url);
    const auto& rootfs = manifest->rootfs;
    const auto said = fmt::format(
        "Added image \"{}\": {} of memory{} stay at {}.", arguments.name,
        format_size(manifest->memory_size),
        rootfs ? fmt::format(" and {} of root file system", format_size(rootfs->file.size)) : "",
        arguments.url
    );
    return report(said, *manifest, options);
}

Result<int> verb_image_pull(const ImageArguments& arguments, const OutputOptions& options) {
    const image::Store store(arguments.root);
    THAW_TRY(const auto remote, RemoteFolder::open(arguments.fetch_socket));
    THAW_TRY(const auto arrival, image::Arrival::begin(store, arguments.name));
    std::uint64_t whole = 0;
    std::uint64_t bytes = 0; // that are not zero
    for (const auto& file : arrival->files()) {
        whole += file.size();
        bytes += bytes_of(data_of(file.map()));
    }
    // Kept until the image is there.
    THAW_TRY(
        const auto lease,
        admit_work(arguments.root, bytes, "pull of image " + arguments.name, options)
    );
    THAW_CHECK(with_progress("Pulling " + arguments.name, [&](const auto& progress) {
        return pull_all(*remote, *arrival, bytes, progress);
    }));
    image::Store::Warnings warnings;
    THAW_CHECK(arrival->finish(&warnings));
    for (const auto& warning : warnings)
        print_warning(warning);
    log_image(message_id::kImagePulled, arguments.name, arrival->files().front().source().url);
    const auto said = fmt::format(
        "Pulled image \"{}\": {} of {} fetched and checked.", arguments.name, format_size(bytes),
        format_size(whole)
    );
    return report(said, store.open(arguments.name)->manifest, options);
}

Result<int> verb_image_push(const ImageArguments& arguments, const OutputOptions& options) {
    const image::Store store(arguments.root);
    THAW_TRY(const auto opened, store.open(arguments.name));
    if (opened.manifest.base)
        return fail(EOPNOTSUPP, "image '{}' is a difference and cannot be pushed", arguments.name);
    THAW_TRY(const auto remote, RemoteFolder::open(arguments.fetch_socket));
    THAW_TRY(const auto manifest_url, RemoteFolder::join(arguments.url, image::kManifestFile));
    {
        const InterruptGuard guard;
        THAW_TRY(const auto there, remote->find(manifest_url));
        if (there && !arguments.force)
            return fail(
                EEXIST, "{}: there is an image already (--force replaces it)", manifest_url
            );
    }
    // What is damaged here would be sealed as damaged everywhere.
    THAW_CHECK(with_progress("Verifying " + arguments.name, [&](const auto& progress) {
        return store.verify(arguments.name, progress);
    }));
    THAW_CHECK(with_progress("Pushing " + arguments.name, [&](const auto& progress) {
        return push_all(*remote, opened, arguments.url, progress);
    }));
    log_image(message_id::kImagePushed, arguments.name, arguments.url);
    const auto said = fmt::format("Pushed image \"{}\" to {}.", arguments.name, arguments.url);
    return report(said, opened.manifest, options);
}

} // namespace thaw::ctl
