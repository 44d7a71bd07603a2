// SPDX-License-Identifier: MIT

// What the installation should have made on this host.

#include "core/names.hpp"
#include "doctor.hpp"
#include "image/store.hpp"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace thaw::ctl {

namespace {

void check_accounts(Findings& findings) {
    std::string missing;
    for (const char* user : {"thaw-pager", "thaw-fetch"})
        if (getpwnam(user) == nullptr) missing += fmt::format(" user {}", user);
    for (const char* group : {"thaw-pager", "thaw-vmm", "thaw", "kvm"})
        if (getgrnam(group) == nullptr) missing += fmt::format(" group {}", group);
    findings.push_back(
        {"accounts", missing.empty() ? Verdict::Ok : Verdict::Failed,
         missing.empty() ? "users and groups exist" : "missing:" + missing,
         missing.empty() ? "" : "run 'systemd-sysusers thaw.conf'"}
    );
}

void check_directories(Findings& findings) {
    std::string missing;
    for (const char* path : {paths::kVmRuntime, paths::kRestoreRuntime, paths::kPagerVms}) {
        // Below a directory that is closed to us nothing can be said.
        if (access(path, F_OK) < 0 && errno == ENOENT) missing += fmt::format(" {}", path);
    }
    findings.push_back(
        {"directories", missing.empty() ? Verdict::Ok : Verdict::Failed,
         missing.empty() ? "runtime directories exist" : "missing:" + missing,
         missing.empty() ? "" : "run 'systemd-tmpfiles --create thaw.conf'"}
    );
}

void check_kvm(Findings& findings) {
    const bool there = access("/dev/kvm", F_OK) == 0;
    findings.push_back(
        {"kvm", there ? Verdict::Ok : Verdict::Warning,
         there ? "/dev/kvm exists" : "/dev/kvm is not there",
         there ? "" : "load kvm_intel or kvm_amd, or enable nested virtualisation; VMMs need it"}
    );
}

// What Firecracker needs to use an overlay.
void check_nbd(Findings& findings) {
    if (access("/sys/module/nbd", F_OK) < 0) {
        findings.push_back(
            {"overlays.nbd", Verdict::Note,
             "the kernel has no nbd devices: Firecracker cannot use an overlay, QEMU can",
             "'modprobe nbd nbds_max=256 max_part=0', where the kernel was built with it"}
        );
        return;
    }
    std::size_t devices = 0;
    std::size_t used = 0;
    std::error_code code;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/block", code)) {
        if (!entry.path().filename().string().starts_with("nbd")) continue;
        devices++;
        std::error_code ignored;
        if (std::filesystem::exists(entry.path() / "pid", ignored)) used++;
    }
    const bool free = used < devices;
    findings.push_back(
        {"overlays.nbd", free ? Verdict::Ok : Verdict::Warning,
         fmt::format("the kernel has {} nbd devices, {} in use", devices, used),
         free ? "" : "load the module nbd with a larger nbds_max="}
    );
}

// A root file system as an overlay: its server, and its devices.
void check_overlays(Findings& findings) {
    const bool nbdkit =
        access("/usr/sbin/nbdkit", X_OK) == 0 || access("/usr/bin/nbdkit", X_OK) == 0;
    findings.push_back(
        {"overlays.nbdkit", nbdkit ? Verdict::Ok : Verdict::Note,
         nbdkit ? "nbdkit is installed" : "nbdkit is not installed",
         nbdkit ? "" : "install nbdkit 1.32 or later for 'thawctl restore --rootfs'"}
    );
    check_nbd(findings);
}

} // namespace

void check_host(Findings& findings) {
    check_accounts(findings);
    check_directories(findings);
    check_kvm(findings);
    check_overlays(findings);
}

void check_images(const std::string& root, Findings& findings) {
    const auto images = image::Store(root).list();
    if (!images) {
        const bool denied = images.error().code() == EACCES;
        findings.push_back(
            {"images.root", denied ? Verdict::Note : Verdict::Failed, images.error().message(),
             denied ? "run the check as root"
                    : "run 'systemd-tmpfiles --create thaw.conf', or give --image-root"}
        );
        return;
    }
    struct stat st{};
    const auto* group = getgrnam("thaw-vmm");
    const bool owned = stat(root.c_str(), &st) == 0 && st.st_uid == 0 && group != nullptr &&
                       st.st_gid == group->gr_gid && (st.st_mode & 0027U) == 0;
    findings.push_back(
        {"images.root", owned ? Verdict::Ok : Verdict::Failed,
         fmt::format("{}: {} images, mode {:04o}", root, images->size(), st.st_mode & 07777U),
         owned ? "" : fmt::format("chown root:thaw-vmm {} && chmod 0750 {}", root, root)}
    );
    for (const auto& entry : *images)
        if (!entry.manifest)
            findings.push_back(
                {"images." + entry.name, Verdict::Warning, entry.manifest.error().message(),
                 fmt::format("import it again, or 'thawctl image rm {}'", entry.name)}
            );
}

} // namespace thaw::ctl
