// SPDX-License-Identifier: MIT
#pragma once

// Where the memory of an image is that is not at hand: behind a URL, or in a file of a slow file
// system. Kept in the descriptor store as a sealed memfd, because names there say nothing.

#include "core/fd.hpp"
#include "protocol/fetch_control.hpp"

#include <string>

namespace thaw::pagerd {

struct RemoteMemory {
    std::string url; // empty: `file`
    Fd file;         // invalid with a URL
    protocol::SourceIdentity identity;

    // Of the same object, whatever descriptor leads to it.
    bool is_same(const RemoteMemory& other) const {
        return url == other.url && identity == other.identity;
    }
};

// Without the file, which is a descriptor of its own. The store's memfd is read from its beginning.
Result<Fd> store_remote_memory(const RemoteMemory& remote);
// EBADMSG when it is none of ours.
Result<RemoteMemory> load_remote_memory(int memfd);

} // namespace thaw::pagerd
