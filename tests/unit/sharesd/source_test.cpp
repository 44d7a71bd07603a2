// SPDX-License-Identifier: MIT
#include "api/shares1.hpp"
#include "handle_probe.hpp"
#include "source.hpp"
#include "source_policy.hpp"

#include <gtest/gtest.h>

#include <filesystem>

namespace thaw::sharesd {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<std::string>;

TEST(SourcePath, PlainAbsolutePathsOnly) {
    for (const char* good : {"/srv", "/srv/a b", "/srv/..a", "/srv/%i", "/srv/\"x\""})
        EXPECT_TRUE(check_source_path(good)) << good;
    for (const char* bad :
         {"", "srv", "/", "/srv/", "/srv//a", "/srv/../etc", "/srv/.", "/..",
          "/srv/a\nBindPaths=/etc", "/srv/\x7f"})
        EXPECT_EQ(check_source_path(bad).error().bus_name(), shares1::error::kSourceInvalid) << bad;
}

TEST(AllowedSources, WholeComponentsCount) {
    const Paths allowed{"/srv/shares", "/home/me/"};
    for (const char* good : {"/srv/shares", "/srv/shares/a/b", "/home/me", "/home/me/x"})
        EXPECT_TRUE(is_allowed(good, allowed)) << good;
    for (const char* bad : {"/srv", "/srv/sharesx", "/home/mex", "/etc", "/home"})
        EXPECT_FALSE(is_allowed(bad, allowed)) << bad;
    EXPECT_FALSE(is_allowed("/srv", {}));
    EXPECT_TRUE(is_allowed("/anything", {"/"}));
}

TEST(ChurningCache, KnownOnesAreFoundAnywhereInAPath) {
    const auto& patterns = default_churning_caches();
    for (const char* cache :
         {"/home/me/.cache", "/home/me/.cache/coursier/v1", "/root/.ivy2", "/home/a/.npm",
          "/home/a/.local/share/pnpm/store/v3", "/home/a/.cargo/registry", "/home/a/go/pkg/mod",
          "/home/a/.m2/repository/org", "/var/lib/docker/overlay2", "/home/a/.cache/uv",
          "/home/a/.cache/pip"})
        EXPECT_TRUE(find_churning_cache(cache, patterns)) << cache;
    for (const char* plain :
         {"/home/me", "/home/me/cache", "/srv/.cached", "/home/a/.cargo/bin", "/home/a/go/src",
          "/srv/lib/dockerfile"})
        EXPECT_FALSE(find_churning_cache(plain, patterns)) << plain;
    EXPECT_EQ(find_churning_cache("/x/my/cache/y", {"my/cache"}).value(), "my/cache");
    EXPECT_FALSE(find_churning_cache("/home/me/.cache", {}));
}

TEST(MountsBelow, RelativeToTheSource) {
    constexpr std::string_view kInfo = "22 1 0:20 / / rw - ext4 /dev/x rw\n"
                                       "23 22 0:21 / /srv/s rw - ext4 /dev/x rw\n"
                                       "24 23 0:22 / /srv/s/a\\040b rw - tmpfs t rw\n"
                                       "25 23 0:23 / /srv/s/deep/er rw - tmpfs t rw\n"
                                       "26 22 0:24 / /srv/sx rw - tmpfs t rw\n"
                                       "short line\n";
    EXPECT_EQ(mounts_below(kInfo, "/srv/s"), (Paths{"a b", "deep/er"}));
    EXPECT_EQ(mounts_below(kInfo, "/nowhere"), Paths{});
}

class SourceTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = "/tmp/thaw-source-XXXXXX";
        root_ = fs::canonical(mkdtemp(pattern.data())).string();
        fs::create_directories(root_ + "/real/below");
        fs::create_directory_symlink(root_ + "/real", root_ + "/link");
    }
    void TearDown() override { fs::remove_all(root_); }
    static std::string error_of(const std::string& path) {
        const auto source = open_source(path);
        return source ? "" : std::string(source.error().bus_name());
    }
    std::string root_;
};

TEST_F(SourceTest, OpensADirectoryAndNothingElse) {
    EXPECT_EQ(error_of(root_ + "/real"), "");
    EXPECT_EQ(error_of(root_ + "/none"), shares1::error::kSourceMissing);
    EXPECT_EQ(error_of(root_ + "/real/none"), shares1::error::kSourceMissing);
    EXPECT_EQ(error_of("/etc/passwd"), shares1::error::kSourceInvalid);
}

TEST_F(SourceTest, FollowsNoSymlinkAnywhere) {
    EXPECT_EQ(error_of(root_ + "/link"), shares1::error::kSourceInvalid);
    EXPECT_EQ(error_of(root_ + "/link/below"), shares1::error::kSourceInvalid);
    EXPECT_NE(open_source(root_ + "/link").error().message().find("symlink"), std::string::npos);
}

TEST_F(SourceTest, FindsCachesRightInTheSource) {
    const auto source = open_source(root_ + "/real").value();
    EXPECT_FALSE(held_cache(source, default_churning_caches()));
    fs::create_directories(root_ + "/real/.cargo/registry");
    EXPECT_EQ(held_cache(source, default_churning_caches()).value(), ".cargo/registry");
}

// This very process has the host's root and no source below it.
TEST_F(SourceTest, AnotherProcessWithoutTheSourceIsNotTakenForIt) {
    const auto source = open_source(root_ + "/real").value();
    EXPECT_FALSE(check_daemon_source(getpid(), source));
}

} // namespace
} // namespace thaw::sharesd
