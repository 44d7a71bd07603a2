// SPDX-License-Identifier: MIT
// The daemon under test has its real paths: this program and all it starts see a /run, /var/lib and
// /var/tmp of their own, in a mount namespace that goes with them. Needs root; skipped otherwise.
#include <gtest/gtest.h>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>

namespace {

constexpr int kSkipped = 77;

bool hide_the_host() {
    if (unshare(CLONE_NEWNS) < 0) return false;
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return false;
    for (const char* folder : {"/run", "/var/lib"})
        if (mount("tmpfs", folder, "tmpfs", MS_NOSUID, "mode=0755") < 0) return false;
    return true;
}

} // namespace

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    if (!hide_the_host()) {
        std::perror("no mount namespace of our own: skipped");
        return kSkipped;
    }
    umask(022);
    return RUN_ALL_TESTS();
}
