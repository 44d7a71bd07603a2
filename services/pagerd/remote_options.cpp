// SPDX-License-Identifier: MIT
#include "remote_options.hpp"

#include "request_option.hpp"

namespace thaw::pagerd {

Result<bool> read_remote_option(
    BusMessage& message, std::string_view key, std::string_view prefix,
    std::optional<RemoteMemory>& remote
) {
    if (!key.starts_with(prefix)) return false;
    const auto word = key.substr(prefix.size());
    const bool is_text = word == "Url" || word == "ETag" || word == "Modified";
    if (!is_text && word != "Length") return false;
    RemoteMemory& target = remote ? *remote : remote.emplace();
    if (!is_text) {
        THAW_TRY(target.identity.length, read_variant<std::uint64_t>(message, key, "t"));
        return true;
    }
    THAW_TRY(const auto* text, read_variant<const char*>(message, key, "s"));
    (word == "Url"    ? target.url
     : word == "ETag" ? target.identity.etag
                      : target.identity.last_modified) = text;
    return true;
}

Result<> check_remote_memory(const RemoteMemory& remote, const Fd& map, bool has_id) {
    if (!map) return invalid("remote bytes without the file 'map'");
    if (remote.url.empty() == !remote.file)
        return invalid("remote bytes are either behind a URL or in a file");
    if (remote.url.size() > protocol::kFetchMaxUrl ||
        remote.identity.etag.size() > protocol::kFetchMaxTag ||
        remote.identity.last_modified.size() > protocol::kFetchMaxTag)
        return invalid("a URL, an ETag or a date that is too long");
    if (!has_id) return invalid("remote bytes without an id");
    return {};
}

} // namespace thaw::pagerd
