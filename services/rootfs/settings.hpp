// SPDX-License-Identifier: MIT
#pragma once

// What one overlay is told on nbdkit's command line.

#include "core/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace thaw::rootfs {

struct Settings {
    std::string name;               // the VM's, for its journal entries and status
    std::string base;               // path; empty: it is read from the pager
    std::string base_socket;        // then: where that serves it
    std::string base_digest;        // ... XXH3-128 of all its bytes, hex
    std::string base_image;         // ... whose it is, for people
    std::uint64_t size = 0;         // bytes of the disk; 0: as large as the base
    std::uint64_t memory = kMemory; // bytes; 0: none
    std::string spill;              // folder of the unnamed file; empty: none
    std::uint64_t disk_max = 0;     // bytes of the file; 0: what the file system has
    std::string durable;            // folder that is the overlay; empty: ephemeral
    int control = -1;               // listening SOCK_SEQPACKET socket

    static constexpr std::uint64_t kMemory = 256 << 20;
};

// One "key=value". EINVAL: unknown, or no value of its kind. Sizes are numbers with K, M, G or T.
Result<> apply_setting(Settings& settings, std::string_view key, std::string_view value);
// What is missing or does not go together. EINVAL.
Result<> check_settings(const Settings& settings);
// For nbdkit --help.
inline constexpr const char* kSettingsHelp =
    "base=PATH         what is below, never written\n"
    "base-socket=PATH  or where the pager serves it (then: base-digest=, base-image=)\n"
    "name=VM           whose disk it is\n"
    "size=SIZE         of the disk; beyond the base it reads as zeros (default: the base's)\n"
    "memory=SIZE       changed blocks up to here lie in memory (default: 256M)\n"
    "spill=FOLDER      the others lie in an unnamed file there (default: they are refused)\n"
    "disk-max=SIZE     of that file, or of the durable overlay\n"
    "durable=FOLDER    all lie in this folder and survive any crash\n"
    "control-fd=FD     socket for status and consistent points";

} // namespace thaw::rootfs
