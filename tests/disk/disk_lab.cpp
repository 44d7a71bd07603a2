// SPDX-License-Identifier: MIT
#include "disk_lab.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>

namespace thaw::test {

namespace {

constexpr int kLoopAttempts = 64; // other processes take free devices as well

std::string& lab_root() {
    static std::string root;
    return root;
}

[[noreturn]] void give_up(const std::string& what, int error = 0) {
    throw std::runtime_error(error != 0 ? what + ": " + errno_text(error) : what);
}

Fd open_image(const DiskOptions& options, const std::string& name) {
    if (options.sparse_backing) return Fd(open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!options.image_directory.empty())
        return Fd(open(options.image_directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    return Fd(memfd_create("thaw-disk", MFD_CLOEXEC));
}

Fd make_image(const DiskOptions& options, const std::string& name) {
    Fd image = open_image(options, name);
    const auto size = static_cast<off_t>(options.bytes);
    if (!image || ftruncate(image.get(), size) < 0) give_up("make an image", errno);
    if (!options.image_directory.empty() && fallocate(image.get(), 0, 0, size) < 0)
        give_up("allocate an image in " + options.image_directory, errno);
    return image;
}

// The device lets go of the image when its last user closes it.
std::pair<Fd, std::string> attach(const Fd& image) {
    const Fd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    loop_config config{};
    config.fd = static_cast<unsigned>(image.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    for (int attempt = 0; attempt < kLoopAttempts; attempt++) {
        const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
        if (number < 0) give_up("find a free loop device", errno);
        const auto path = fmt::format("/dev/loop{}", number);
        Fd device(open(path.c_str(), O_RDWR | O_CLOEXEC));
        if (device && ioctl(device.get(), LOOP_CONFIGURE, &config) == 0)
            return {std::move(device), path};
        usleep(10000);
    }
    give_up("no loop device could be taken");
}

Result<std::string> path_of_program(const std::string& name) {
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"})
        if (access((folder + name).c_str(), X_OK) == 0) return folder + name;
    return fail(ENOENT, "{}: not installed", name);
}

} // namespace

std::string enter_disk_lab() {
    if (!lab_root().empty()) return {};
    if (geteuid() != 0) return "not root";
    if (access("/dev/loop-control", R_OK | W_OK) < 0) return "no loop devices";
    if (unshare(CLONE_NEWNS) < 0) return "no mount namespaces: " + errno_text(errno);
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)
        give_up("make mounts private", errno);
    // Only this process and its children see the file system that goes over it.
    const std::string root = "/mnt";
    if (mount("thaw-disk-lab", root.c_str(), "tmpfs", 0, "mode=0755") < 0)
        give_up("mount a tmpfs on /mnt", errno);
    lab_root() = root;
    return {};
}

void run(const std::vector<std::string>& command) {
    const auto program = path_of_program(command.front());
    if (!program) give_up(program.error().message());
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const auto& word : command)
        arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const Fd output(memfd_create("output", MFD_CLOEXEC));
    const pid_t child = fork();
    if (child < 0) give_up("fork", errno);
    if (child == 0) {
        dup2(output.get(), STDOUT_FILENO);
        dup2(output.get(), STDERR_FILENO);
        execv(program->c_str(), arguments.data());
        _exit(127);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) give_up("waitpid", errno);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    lseek(output.get(), 0, SEEK_SET);
    give_up(command.front() + ": " + read_fd(output.get()).value_or("(no output)"));
}

Disk::Disk(const DiskOptions& options) {
    static unsigned number = 0;
    number++;
    path_ = fmt::format("{}/disk{}", lab_root(), number);
    if (mkdir(path_.c_str(), 0755) < 0) give_up("mkdir " + path_, errno);
    std::vector<std::string> command{"mount", "-t", options.type};
    if (!options.mount_options.empty())
        command.insert(command.end(), {"-o", options.mount_options});
    if (options.type == "tmpfs") {
        command.insert(
            command.end(), {"-o", fmt::format("size={}", options.bytes), "tmpfs", path_}
        );
        run(command);
    } else {
        const auto name = fmt::format("{}/image{}", lab_root(), number);
        const Fd image = make_image(options, name);
        if (options.sparse_backing) backing_ = name;
        const auto [loop, device] = attach(image);
        device_ = device;
        std::vector<std::string> mkfs{"mkfs." + options.type, "-q"};
        mkfs.insert(mkfs.end(), options.mkfs.begin(), options.mkfs.end());
        mkfs.push_back(device_);
        run(mkfs);
        command.insert(command.end(), {device_, path_});
        run(command);
    }
    mounted_ = true;
    if (chmod(path_.c_str(), 01777) < 0) give_up("chmod " + path_, errno);
}

Disk::~Disk() {
    // A failed test may have left something open: the file system goes with the last user.
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
    if (!backing_.empty()) unlink(backing_.c_str());
}

bool Disk::unmount() {
    if (umount2(path_.c_str(), 0) < 0) return false;
    mounted_ = false;
    return true;
}

reserve::Volume Disk::volume() const {
    auto volume = reserve::find_volume(path_);
    if (!volume) give_up(volume.error().message());
    return std::move(*volume);
}

void Disk::sync() const {
    const Fd root(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root || syncfs(root.get()) < 0) give_up("syncfs " + path_, errno);
}

reserve::Space Disk::space() const {
    sync();
    const Fd root(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root) give_up("open " + path_, errno);
    const auto space = reserve::space_of(root.get());
    if (!space) give_up(space.error().message());
    return *space;
}

void make_file(const std::string& path, mode_t mode) {
    const Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!file || fchmod(file.get(), mode) < 0 || fsync(file.get()) < 0)
        give_up("make " + path, errno);
}

} // namespace thaw::test
