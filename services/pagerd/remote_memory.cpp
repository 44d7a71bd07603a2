// SPDX-License-Identifier: MIT
#include "remote_memory.hpp"

#include "config/json.hpp"
#include "core/file.hpp"
#include "sealed_memfd.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <span>

namespace thaw::pagerd {

Result<Fd> store_remote_memory(const RemoteMemory& remote) {
    const std::string text = json_dump({
        {"url", remote.url},
        {"length", remote.identity.length},
        {"etag", remote.identity.etag},
        {"last-modified", remote.identity.last_modified},
    });
    return make_sealed_memfd("thaw-remote", std::as_bytes(std::span(text)));
}

Result<RemoteMemory> load_remote_memory(int memfd) {
    constexpr std::size_t kLongest = 64 << 10;
    THAW_TRY(const auto identity, identify(memfd));
    if (identity.size > kLongest) return fail(EBADMSG, "remote memory: {} bytes", identity.size);
    std::string text(identity.size, '\0');
    THAW_CHECK(pread_exact(memfd, std::as_writable_bytes(std::span(text)), 0));
    THAW_TRY(const auto document, JsonDocument::parse(text));
    const JsonView root = document.root();
    RemoteMemory remote;
    THAW_TRY(remote.url, root.string("url"));
    THAW_TRY(remote.identity.length, root.unsigned_number("length"));
    THAW_TRY(remote.identity.etag, root.string("etag"));
    THAW_TRY(remote.identity.last_modified, root.string("last-modified"));
    return remote;
}

} // namespace thaw::pagerd
