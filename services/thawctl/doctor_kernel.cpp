// SPDX-License-Identifier: MIT

// What the kernel offers to the pager and the VMMs.

#include "core/file.hpp"
#include "core/kernel_compat.hpp"
#include "core/text.hpp"
#include "doctor.hpp"
#include "event/uring.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <charconv>
#include <memory>

namespace thaw::ctl {

namespace {

constexpr const char* kDevice = "/dev/userfaultfd";
constexpr KernelVersion kFloor{6, 1};
// USERFAULTFD_IOC_NEW of linux/userfaultfd.h, Linux 6.1.
constexpr unsigned long kUffdNew = _IO(0xAA, 0x00);

std::string read_word(const std::string& path) {
    const auto text = read_file(path, 4096);
    return text ? std::string(trim(*text)) : std::string();
}

std::string group_name(gid_t gid) {
    const auto* entry = getgrgid(gid);
    return entry != nullptr ? entry->gr_name : std::to_string(gid);
}

void check_features(int uffd, Findings& findings) {
    uffdio_api api{};
    api.api = UFFD_API;
    // Asked with nothing requested, the kernel answers with all it has.
    if (ioctl(uffd, UFFDIO_API, &api) < 0) {
        findings.push_back(
            {"userfaultfd.api", Verdict::Failed, errno_text(errno), "use a kernel of 6.1 or later"}
        );
        return;
    }
    struct Feature {
        const char* name;
        unsigned long long bit;
        Verdict without;
        const char* remedy;
    };
    const Feature features[] = {
        {"event_remove", UFFD_FEATURE_EVENT_REMOVE, Verdict::Failed,
         "use a kernel with CONFIG_USERFAULTFD"},
        {"missing_hugetlbfs", UFFD_FEATURE_MISSING_HUGETLBFS, Verdict::Warning,
         "2 MiB pages need CONFIG_HUGETLBFS"},
        {"poison", UFFD_FEATURE_POISON, Verdict::Note,
         "needs Linux 6.6; without it a VM whose page cannot be read is stopped"},
    };
    for (const auto& feature : features) {
        const bool there = (api.features & feature.bit) != 0;
        findings.push_back(
            {fmt::format("userfaultfd.{}", feature.name), there ? Verdict::Ok : feature.without,
             there ? "supported" : "not supported", there ? "" : feature.remedy}
        );
    }
}

void check_device_open(Findings& findings) {
    const auto device = open_file(kDevice, O_RDWR);
    if (!device) {
        const bool permission = device.error().code() == EACCES;
        findings.push_back(
            {"userfaultfd.open", permission ? Verdict::Note : Verdict::Failed,
             device.error().message(),
             permission ? "run the check as root, or join group thaw-vmm" : "see dmesg"}
        );
        return;
    }
    const Fd uffd(ioctl(device->get(), kUffdNew, O_CLOEXEC | O_NONBLOCK));
    if (!uffd) {
        findings.push_back(
            {"userfaultfd.open", Verdict::Failed,
             fmt::format("USERFAULTFD_IOC_NEW: {}", errno_text(errno)), "see dmesg"}
        );
        return;
    }
    findings.push_back({"userfaultfd.open", Verdict::Ok, "a userfaultfd can be made", ""});
    check_features(uffd.get(), findings);
}

} // namespace

KernelVersion parse_kernel_version(std::string_view release) {
    KernelVersion version;
    const auto* begin = std::to_address(release.begin());
    const auto* end = begin + release.size();
    const auto major = std::from_chars(begin, end, version.major);
    if (major.ec == std::errc{} && major.ptr != end && *major.ptr == '.')
        (void)std::from_chars(major.ptr + 1, end, version.minor);
    return version;
}

void check_kernel(Findings& findings) {
    utsname name{};
    if (uname(&name) < 0) return;
    const bool enough = parse_kernel_version(name.release) >= kFloor;
    findings.push_back(
        {"kernel.version", enough ? Verdict::Ok : Verdict::Failed,
         fmt::format("Linux {}", name.release), enough ? "" : "use Linux 6.1 or later"}
    );
}

void check_userfaultfd(Findings& findings) {
    struct stat st{};
    if (stat(kDevice, &st) < 0) {
        findings.push_back(
            {"userfaultfd.device", Verdict::Failed, fmt::format("{} is not there", kDevice),
             "use Linux 6.1 or later with CONFIG_USERFAULTFD"}
        );
    } else {
        const auto group = group_name(st.st_gid);
        const auto mode = st.st_mode & 07777U;
        const bool good = group == "thaw-vmm" && (mode & 0060U) == 0060U;
        findings.push_back(
            {"userfaultfd.device", good ? Verdict::Ok : Verdict::Failed,
             fmt::format("{} has group {} and mode {:04o}", kDevice, group, mode),
             good ? "" : "run 'systemd-tmpfiles --create thaw.conf'"}
        );
        check_device_open(findings);
    }
    const auto sysctl = read_word("/proc/sys/vm/unprivileged_userfaultfd");
    findings.push_back(
        {"userfaultfd.sysctl", Verdict::Note,
         fmt::format("vm.unprivileged_userfaultfd is {}", sysctl.empty() ? "unknown" : sysctl),
         sysctl == "1" ? ""
                       : "nothing to do: VMMs use /dev/userfaultfd (Firecracker before 1.5 needs "
                         "the drop-in in thaw-firecracker@.service(5))"}
    );
}

void check_io_uring(Findings& findings) {
    const auto full = Uring::create(8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (full) {
        findings.push_back(
            {"io_uring", Verdict::Ok, "available with SINGLE_ISSUER and DEFER_TASKRUN", ""}
        );
        return;
    }
    const auto sysctl = read_word("/proc/sys/kernel/io_uring_disabled");
    findings.push_back(
        {"io_uring", Verdict::Warning,
         fmt::format(
             "{}; kernel.io_uring_disabled is {}", full.error().message(),
             sysctl.empty() ? "not there" : sysctl
         ),
         "the pager falls back to epoll; for io_uring set kernel.io_uring_disabled=0"}
    );
}

void check_memory(Findings& findings) {
    const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
    const auto total = parse_unsigned(read_word(pool + "nr_hugepages"));
    const auto unused = parse_unsigned(read_word(pool + "free_hugepages"));
    if (!total || !unused) {
        findings.push_back(
            {"hugepages", Verdict::Note, "no 2 MiB pages in this kernel",
             "images with 2 MiB pages need CONFIG_HUGETLBFS"}
        );
        return;
    }
    findings.push_back(
        {"hugepages", *total > 0 ? Verdict::Ok : Verdict::Note,
         fmt::format("{} of {} pages of 2 MiB are free", *unused, *total),
         *total > 0 ? "" : "set vm.nr_hugepages to restore images with 2 MiB pages"}
    );
}

} // namespace thaw::ctl
