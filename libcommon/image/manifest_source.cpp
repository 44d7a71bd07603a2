// SPDX-License-Identifier: MIT
#include "image/manifest_source.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace thaw::image {

namespace {

constexpr std::string_view kFileScheme = "file://";

Result<RemoteFile> parse_file(const JsonView& view) {
    RemoteFile file;
    THAW_TRY(file.url, view.string("url"));
    THAW_TRY(file.identity.length, view.unsigned_number("length"));
    THAW_TRY(file.identity.etag, view.string_or("etag", ""));
    THAW_TRY(file.identity.last_modified, view.string_or("last_modified", ""));
    return file;
}

nlohmann::json file_json(const RemoteFile& file) {
    return {
        {"url", file.url},
        {"length", file.identity.length},
        {"etag", file.identity.etag},
        {"last_modified", file.identity.last_modified},
    };
}

// They end up in requests and in the journal.
bool is_plain(std::string_view text, std::size_t limit) {
    return text.size() <= limit && std::ranges::all_of(text, [](char c) {
               return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
           });
}

Result<> check_file(const RemoteFile& file, std::string_view what) {
    const bool known = file.url.starts_with("https://") || file.url.starts_with("http://") ||
                       path_of_url(file.url);
    if (!known || !is_plain(file.url, protocol::kFetchMaxUrl) ||
        file.url.find(' ') != std::string::npos)
        return fail(EBADMSG, "source.{}.url: not a URL of https, http or file", what);
    if (file.identity.length == 0) return fail(EBADMSG, "source.{}.length: empty", what);
    if (!is_plain(file.identity.etag, protocol::kFetchMaxTag) ||
        !is_plain(file.identity.last_modified, protocol::kFetchMaxTag))
        return fail(EBADMSG, "source.{}: an ETag or a date that is none", what);
    return {};
}

} // namespace

std::optional<std::string> path_of_url(std::string_view url) {
    if (!url.starts_with(kFileScheme)) return std::nullopt;
    const auto path = url.substr(kFileScheme.size());
    if (!path.starts_with('/') || path.find("/../") != std::string_view::npos) return std::nullopt;
    return std::string(path);
}

Result<RemoteSource> parse_source(const JsonView& root) {
    RemoteSource source;
    THAW_TRY(const auto view, root.at("source"));
    THAW_TRY(const auto memory, view.at("memory"));
    THAW_TRY(source.memory, parse_file(memory));
    if (view.has("rootfs")) {
        THAW_TRY(const auto rootfs, view.at("rootfs"));
        THAW_TRY(source.rootfs, parse_file(rootfs));
    }
    return source;
}

nlohmann::json source_json(const RemoteSource& source) {
    nlohmann::json value = {{"memory", file_json(source.memory)}};
    if (source.rootfs) value["rootfs"] = file_json(*source.rootfs);
    return value;
}

Result<> check_source(const Manifest& manifest) {
    if (!manifest.source) return {};
    const auto& source = *manifest.source;
    if (manifest.base) return fail(EBADMSG, "source: a difference cannot be remote");
    THAW_CHECK(check_file(source.memory, "memory"));
    if (source.memory.identity.length != manifest.memory.size)
        return fail(
            EBADMSG, "source.memory.length: {} differs from files.memory.size {}",
            source.memory.identity.length, manifest.memory.size
        );
    if (source.rootfs.has_value() != manifest.rootfs.has_value())
        return fail(EBADMSG, "source.rootfs: must go with files.rootfs");
    if (!source.rootfs) return {};
    THAW_CHECK(check_file(*source.rootfs, "rootfs"));
    if (source.rootfs->identity.length != manifest.rootfs->file.size)
        return fail(
            EBADMSG, "source.rootfs.length: {} differs from files.rootfs.file.size {}",
            source.rootfs->identity.length, manifest.rootfs->file.size
        );
    return {};
}

} // namespace thaw::image
