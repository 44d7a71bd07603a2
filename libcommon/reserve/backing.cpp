// SPDX-License-Identifier: MIT
#include "reserve/backing.hpp"

#include "core/file.hpp"
#include "core/text.hpp"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <memory>

namespace thaw::reserve {

namespace {

constexpr int kMaxDepth = 8; // LUKS over LVM over RAID over partitions is 4

std::vector<std::string> names_in(const std::string& directory) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(directory.c_str()), closedir);
    if (!dir) return names;
    // readdir() is thread safe per directory stream. NOLINTNEXTLINE(concurrency-mt-unsafe)
    while (const dirent* entry = readdir(dir.get()))
        if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    return names;
}

bool is_sparse_file(const std::string& path) {
    struct stat st{};
    if (stat(path.c_str(), &st) < 0 || !S_ISREG(st.st_mode)) return false;
    return st.st_blocks * 512 < st.st_size;
}

// `node` is a block device's directory in sysfs.
bool is_thin(const std::string& node, int depth) {
    if (depth > kMaxDepth) return false;
    if (const auto file = read_file(node + "/loop/backing_file"))
        return is_sparse_file(std::string(thaw::trim(*file)));
    // LVM names a thin pool's device "LVM-...-tpool"; Stratis' and Docker's carry "thin".
    if (const auto uuid = read_file(node + "/dm/uuid"))
        if (uuid->find("-tpool") != std::string::npos || uuid->find("thin") != std::string::npos)
            return true;
    if (access((node + "/partition").c_str(), F_OK) == 0 && is_thin(node + "/..", depth + 1))
        return true;
    for (const auto& slave : names_in(node + "/slaves"))
        if (is_thin("/sys/class/block/" + slave, depth + 1)) return true;
    return false;
}

// sysfs has '!' where a device's name has '/'; a link is followed so that ".." is the whole disk.
bool is_thin_link(const std::string& link) {
    const std::unique_ptr<char, void (*)(void*)> node(realpath(link.c_str(), nullptr), free);
    return node && is_thin(node.get(), 0);
}

} // namespace

Backing backing_of(dev_t device, const std::string& type, const std::string& uuid) {
    if (type == "btrfs") {
        const auto members = "/sys/fs/btrfs/" + uuid + "/devices";
        for (const auto& member : names_in(members))
            if (is_thin_link(fmt::format("{}/{}", members, member))) return Backing::Thin;
        return Backing::Solid;
    }
    const auto link = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
    return is_thin_link(link) ? Backing::Thin : Backing::Solid;
}

} // namespace thaw::reserve
