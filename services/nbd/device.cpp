// SPDX-License-Identifier: MIT
#include "device.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/nbd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace thaw::nbd {

namespace {

// The smallest, so that a disk of any number of sectors can be had whole.
constexpr std::uint64_t kSector = 512;

Result<> set(const Fd& file, unsigned long request, const char* what, unsigned long value) {
    if (::ioctl(file.get(), request, value) < 0) return fail_errno(errno, "{}", what);
    return {};
}

} // namespace

Result<std::vector<unsigned>> free_devices(const std::string& sysfs) {
    constexpr std::string_view kPrefix = "nbd";
    std::vector<unsigned> numbers;
    bool any = false;
    std::error_code code;
    std::filesystem::directory_iterator entries(sysfs, code);
    for (const std::filesystem::directory_iterator end; !code && entries != end;
         entries.increment(code)) {
        const auto name = entries->path().filename().string();
        if (!name.starts_with(kPrefix)) continue;
        const auto number = parse_unsigned(name.substr(kPrefix.size()), UINT32_MAX);
        if (!number) continue;
        any = true;
        std::error_code ignored;
        // There as long as a connection is.
        if (!std::filesystem::exists(entries->path() / "pid", ignored))
            numbers.push_back(static_cast<unsigned>(*number));
    }
    if (code) return fail(code.value(), "list {}: {}", sysfs, code.message());
    if (!any) return fail(ENODEV, "the kernel has no nbd devices: load the module nbd");
    std::ranges::sort(numbers);
    return numbers;
}

Result<Device> Device::claim(unsigned number, const Fd& socket, const Export& what) {
    auto path = fmt::format("/dev/nbd{}", number);
    THAW_TRY(auto file, open_file(path, O_RDWR));
    // Refused to all but the first who asks.
    THAW_CHECK(set(file, NBD_SET_SOCK, path.c_str(), static_cast<unsigned long>(socket.get())));
    const std::uint64_t sectors = what.size / kSector;
    THAW_CHECK(set(file, NBD_SET_BLKSIZE, "set the block size", kSector));
    THAW_CHECK(set(file, NBD_SET_SIZE_BLOCKS, "set the size", sectors));
    THAW_CHECK(set(file, NBD_SET_FLAGS, "set the flags", what.flags));
    THAW_CHECK(set(file, NBD_SET_TIMEOUT, "set the timeout", kIoTimeout / kUsecPerSec));
    return Device(std::move(path), std::move(file), sectors * kSector);
}

Result<dev_t> Device::device_number() const {
    struct stat st{};
    if (::fstat(file_.get(), &st) < 0) return fail_errno(errno, "{}", path_);
    return st.st_rdev;
}

Result<> Device::run() const {
    return set(file_, NBD_DO_IT, path_.c_str(), 0);
}

Result<bool> Device::is_up() const {
    std::uint64_t size = 0;
    if (::ioctl(file_.get(), BLKGETSIZE64, &size) < 0) return fail_errno(errno, "{}", path_);
    return size == size_;
}

Result<> Device::sync() const {
    if (::fsync(file_.get()) < 0) return fail_errno(errno, "sync {}", path_);
    return {};
}

Result<> Device::disconnect() const {
    return set(file_, NBD_DISCONNECT, path_.c_str(), 0);
}

} // namespace thaw::nbd
