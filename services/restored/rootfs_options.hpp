// SPDX-License-Identifier: MIT
#pragma once

// The root file system of a VM as an overlay: what RestoreInstance asks for, and the settings of
// thaw-rootfs@VM.service for it.

#include "bus/message.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thaw::restore {

struct RootfsRequest {
    // An absolute path, or one below the image's folder; "rootfs" is the image's own, wherever it
    // lies. The server reads it with the rights of group thaw-vmm and of nobody else.
    std::string base;
    std::optional<std::uint64_t> size; // bytes; nothing: the base's
    std::optional<std::uint64_t> memory_max;
    std::optional<std::uint64_t> disk_max;
    bool durable = false;
    // The image's drive that the VMM opens as a block device of the overlay; empty: it gets the
    // server's socket only.
    std::string drive;
    bool operator==(const RootfsRequest&) const = default;
};

// A variant a{sv}: Base s, Size t, MemoryMax t, DiskMax t, Durable b, Drive s. EINVAL names what is
// unknown, of another type, missing or out of range.
Result<RootfsRequest> read_rootfs_request(BusMessage& message);

// Where the server of the overlay finds what is below it.
struct RootfsBase {
    std::string path;   // of the file or device; empty: it is read from the pager
    std::string socket; // then: where that serves it
    std::string digest; // ... XXH3-128 of all its bytes, hex
    std::string image;  // ... whose it is
};
// A relative path is one below `image_directory`.
RootfsBase base_on_this_host(const RootfsRequest& request, const std::string& image_directory);

// The drop-in: command line, user, slice.
std::string
rootfs_drop_in_text(std::string_view vm, const RootfsRequest& request, const RootfsBase& base);
// Writes it for one start. ENOSPC and its like.
Result<>
write_rootfs_settings(std::string_view vm, const RootfsRequest& request, const RootfsBase& base);
// Whether a start of it left anything.
bool has_rootfs_settings(std::string_view vm);
// The drop-ins and the folder of the sockets. Content when nothing is there.
Result<> remove_rootfs_settings(std::string_view vm);

} // namespace thaw::restore
