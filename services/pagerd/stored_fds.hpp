// SPDX-License-Identifier: MIT
#pragma once

// Names of what the broker keeps in the unit's descriptor store, and sorting what came back. The
// names are readable by every user of the host (systemd shows them), so they say nothing but a
// random id and a role.

#include "core/enum_table.hpp"
#include "systemd/notify.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::pagerd {

enum class FdRole : std::uint8_t {
    Listen,  // session: the listening socket, until the handshake is done
    Conn,    // session: the VMM's connection, from accept to the end of the handshake
    Uffd,    // session: the guest's userfaultfd
    Vmm,     // session: pidfd of the VMM
    Worker,  // session: pidfd of the worker
    Session, // session: the session memfd
    Replay,  // session: the working set
    Memory,  // image: the memory file
    Map,     // image: memory.map
    Layers,  // image that is a difference: its table of layers
    Base1,   // ... and the memory files of the images below, nearest first
    Base2,
    Base3,
    Base4,
    Base5,
    Base6,
    Base7,
    Chunks,       // remote image: the cache's bytes
    ChunkMap,     // ... and which of them count
    ChunkIndex,   // ... what they must be: its memory.map
    Remote,       // ... where they come from
    RemoteFile,   // ... which may be a file
    Spill,        // ... and those that were pushed out to disk
    ChunkView,    // image: the map of `memory`'s chunks as workers get it
    Rootfs,       // root file system of a VM: what of which image is served to whom
    RootfsListen, // ... and the listening socket
};

inline constexpr EnumTable kFdRoleNames{std::array{
    std::pair{FdRole::Listen, std::string_view("listen")},
    std::pair{FdRole::Conn, std::string_view("conn")},
    std::pair{FdRole::Uffd, std::string_view("uffd")},
    std::pair{FdRole::Vmm, std::string_view("vmm")},
    std::pair{FdRole::Worker, std::string_view("worker")},
    std::pair{FdRole::Session, std::string_view("session")},
    std::pair{FdRole::Replay, std::string_view("replay")},
    std::pair{FdRole::Memory, std::string_view("memory")},
    std::pair{FdRole::Map, std::string_view("map")},
    std::pair{FdRole::Layers, std::string_view("layers")},
    std::pair{FdRole::Base1, std::string_view("base1")},
    std::pair{FdRole::Base2, std::string_view("base2")},
    std::pair{FdRole::Base3, std::string_view("base3")},
    std::pair{FdRole::Base4, std::string_view("base4")},
    std::pair{FdRole::Base5, std::string_view("base5")},
    std::pair{FdRole::Base6, std::string_view("base6")},
    std::pair{FdRole::Base7, std::string_view("base7")},
    std::pair{FdRole::Chunks, std::string_view("chunks")},
    std::pair{FdRole::ChunkMap, std::string_view("chunk-map")},
    std::pair{FdRole::ChunkIndex, std::string_view("chunk-index")},
    std::pair{FdRole::Remote, std::string_view("remote")},
    std::pair{FdRole::RemoteFile, std::string_view("remote-file")},
    std::pair{FdRole::Spill, std::string_view("spill")},
    std::pair{FdRole::ChunkView, std::string_view("chunk-view")},
    std::pair{FdRole::Rootfs, std::string_view("rootfs")},
    std::pair{FdRole::RootfsListen, std::string_view("rootfs-listen")},
}};

inline constexpr std::array kBaseRoles{
    FdRole::Base1, FdRole::Base2, FdRole::Base3, FdRole::Base4,
    FdRole::Base5, FdRole::Base6, FdRole::Base7,
};

// Ids of sessions and images: 1 to 64 lower-case hex digits.
bool is_valid_id(std::string_view id);

std::string stored_name(std::string_view id, FdRole role); // "ID.role"
struct StoredName {
    std::string id;
    FdRole role;
    bool operator==(const StoredName&) const = default;
};
// Nothing when the name is not one of ours.
std::optional<StoredName> parse_stored_name(std::string_view name);

// What systemd handed over at start.
struct Inherited {
    Fd control; // the control socket, invalid when there is none
    std::map<std::string, std::map<FdRole, Fd>> by_id;
    std::vector<std::string>
        unknown;            // names to remove from the store; their descriptors are closed
    std::size_t stored = 0; // names that came from the store, and unknown descriptors
};
// A second descriptor of the same name is dropped (a replaced one whose removal was lost): its name
// is the same, so it cannot be removed alone and goes with the first.
Inherited sort_inherited(std::vector<NamedFd> fds);

// Name of the control socket (FileDescriptorName= of thaw-pagerd.socket).
inline constexpr std::string_view kControlName = "control";

} // namespace thaw::pagerd
