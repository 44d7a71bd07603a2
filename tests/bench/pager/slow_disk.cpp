// SPDX-License-Identifier: MIT
#include "slow_disk.hpp"

#include "core/file.hpp"
#include "fakes/slow_file.hpp"
#include "rig.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <random>
#include <vector>

namespace thaw::bench {

struct SlowDisk::Parts {
    std::string backing; // file system image on the real disk
    std::string fuse;    // mount point of the slow file
    std::string mount;   // of its file system
    std::string device;  // /dev/loopN
    std::optional<fakes::SlowFile> file;

    ~Parts() {
        ::umount2(mount.c_str(), MNT_DETACH); // the device detaches itself then
        file.reset();
        ::rmdir(mount.c_str());
        ::rmdir(fuse.c_str());
        ::unlink(backing.c_str());
    }
};

namespace {

Result<> run(const std::string& command) {
    // Constants and paths of our own; a shell is what these tools are made for.
    if (std::system(command.c_str()) == 0) return {}; // NOLINT(cert-env33-c,concurrency-mt-unsafe)
    return fail(EIO, "{}", command);
}

Result<> make_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0700) != 0) return fail_errno(errno, "mkdir {}", path);
    return {};
}

constexpr const char* kFiles[] = {"memory", "memory.map", "working-set"};

} // namespace

SlowDisk::SlowDisk(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
SlowDisk::~SlowDisk() = default;

const std::string& SlowDisk::folder() const {
    return parts_->mount;
}

Result<std::unique_ptr<SlowDisk>>
SlowDisk::create(const std::string& scratch, const std::string& source, std::uint64_t bytes) {
    // Mounts of our own: they go with the process, whatever happens.
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
        return fail_errno(errno, "make a mount namespace");
    auto parts = std::make_unique<Parts>();
    parts->backing = scratch + "/disk";
    parts->fuse = scratch + "/fuse";
    parts->mount = scratch + "/slow";
    THAW_CHECK(make_folder(parts->fuse));
    THAW_CHECK(make_folder(parts->mount));
    THAW_CHECK(run(fmt::format("truncate -s {} {}", bytes + (bytes >> 4), parts->backing)));
    THAW_CHECK(run(fmt::format("mkfs.ext4 -q -m 0 -O ^has_journal {}", parts->backing)));
    THAW_CHECK(run(fmt::format("mount -o loop {} {}", parts->backing, parts->mount)));
    for (const char* file : kFiles)
        THAW_CHECK(run(fmt::format("cp {0}/{1} {2}/{1}", source, file, parts->mount)));
    THAW_CHECK(run("umount " + parts->mount));
    THAW_TRY(const Fd backing, open_file(parts->backing, O_RDONLY));
    auto served = fakes::SlowFile::serve(
        {.backing = backing.get(), .folder = parts->fuse, .latency_ns = 100'000, .ns_per_byte = 2.0}
    );
    if (!served) return std::unexpected(std::move(served).error());
    parts->file.emplace(std::move(*served));
    const std::string& name = parts->file->path();
    const std::string result = scratch + "/device";
    THAW_CHECK(run(fmt::format("losetup -f --show -r --direct-io=on {} > {}", name, result)));
    std::ifstream(result) >> parts->device;
    ::unlink(result.c_str());
    THAW_CHECK(run(fmt::format("mount -o ro {} {}", parts->device, parts->mount)));
    THAW_CHECK(run("losetup -d " + parts->device)); // when it is unmounted
    THAW_CHECK(
        run(fmt::format("echo 128 > /sys/block/{}/queue/read_ahead_kb", parts->device.substr(5)))
    );
    return std::unique_ptr<SlowDisk>(new SlowDisk(std::move(parts)));
}

void SlowDisk::forget() {
    for (const char* file : kFiles) {
        const Fd fd = must(open_file(parts_->mount + "/" + file, O_RDONLY), "open the copy");
        ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
    const Fd device = must(open_file(parts_->device, O_RDONLY), "open the device");
    ::ioctl(device.get(), BLKFLSBUF, 0);
}

nlohmann::json SlowDisk::figures() {
    forget();
    const Fd fd = must(open_file(parts_->mount + "/memory", O_RDONLY | O_DIRECT), "open the copy");
    constexpr std::size_t kBig = 1 << 20;
    auto* buffer = static_cast<std::byte*>(std::aligned_alloc(4096, kBig));
    std::mt19937_64 random(5);
    const std::uint64_t pages = identify(fd.get()).value().size / 4096;
    std::vector<std::uint64_t> took;
    for (int i = 0; i < 500; ++i) {
        const std::uint64_t before = now_ns();
        if (::pread(fd.get(), buffer, 4096, static_cast<off_t>(random() % pages * 4096)) != 4096)
            give_up("read the slow disk");
        took.push_back(now_ns() - before);
    }
    const std::uint64_t before = now_ns();
    constexpr int kReads = 64;
    for (int i = 0; i < kReads; ++i)
        if (::pread(fd.get(), buffer, kBig, static_cast<off_t>(i * kBig)) != kBig)
            give_up("read the slow disk");
    const auto sequential = static_cast<double>(now_ns() - before);
    std::free(buffer);
    return {
        {"random_4k_us", percentile(took, 0.5) / 1e3},
        {"sequential_mb_per_s", kReads * static_cast<double>(kBig) * 1e3 / sequential},
    };
}

} // namespace thaw::bench
