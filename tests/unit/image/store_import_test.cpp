// SPDX-License-Identifier: MIT

#include "fixture.hpp"
#include "image/copy.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::image {
namespace {

using testing::expect_sample;
using testing::kMemorySize;
using testing::sample_memory;

class Import : public testing::StoreTest {
protected:
    void expect_refused(const Store::Source& from, int code, const std::string& text) const {
        const auto imported = store_.import("web", from, {});
        ASSERT_FALSE(imported);
        EXPECT_EQ(imported.error().code(), code) << imported.error().message();
        EXPECT_NE(imported.error().message().find(text), std::string::npos)
            << imported.error().message();
        EXPECT_TRUE(root_entries().empty());
    }
    struct stat stat_of(const std::string& file) const {
        struct stat st{};
        EXPECT_EQ(stat(file.c_str(), &st), 0) << file;
        return st;
    }
};

TEST_F(Import, KeepsSettingsAndSources) {
    auto from = source();
    from.manifest.page_size = kPageSize2M;
    from.manifest.drives = {{"rootfs", "root.ext4", true, true}};
    from.manifest.vsock_path = "v.sock";
    ASSERT_TRUE(store_.import("web", from, {}));
    const auto image = store_.open("web");
    ASSERT_TRUE(image);
    EXPECT_EQ(image->manifest.page_size, kPageSize2M);
    EXPECT_EQ(image->manifest.vmm_version, "1.12.0");
    EXPECT_EQ(image->manifest.drives.at(0).path, "root.ext4");
    EXPECT_EQ(image->manifest.vsock_path, "v.sock");
    EXPECT_GT(image->manifest.created, 1700000000000000U);
    expect_sample(store_, "web");
    EXPECT_EQ(get(path("memory")), sample_memory());
}

TEST_F(Import, SetsModesAndOwner) {
    Store::Warnings warnings;
    ASSERT_TRUE(store_.import("web", source(), {}, &warnings));
    EXPECT_EQ(stat_of(path("images/web")).st_mode & 07777U, 0750U);
    const auto* group = getgrnam("thaw-vmm");
    for (const char* file : {"image.json", "memory.map", "vmstate", "memory"}) {
        const auto st = stat_of(in_image("web", file));
        EXPECT_EQ(st.st_mode & 07777U, 0640U) << file;
        if (group != nullptr && geteuid() == 0) {
            EXPECT_EQ(st.st_gid, group->gr_gid) << file;
        }
    }
    EXPECT_EQ(warnings.size(), group != nullptr && geteuid() == 0 ? 0U : 1U);
}

TEST_F(Import, RefusesASecondOne) {
    import_sample("web");
    put(path("memory"), std::string(8192, 'y'));
    const auto again = store_.import("web", source(), {});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), EEXIST);
    expect_sample(store_, "web");
    EXPECT_EQ(root_entries(), std::vector<std::string>{"web"});
}

TEST_F(Import, RefusesTruncatedMemory) {
    ASSERT_EQ(truncate(path("memory").c_str(), kMemorySize - 1), 0);
    expect_refused(source(), EBADMSG, "truncated memory file");
    ASSERT_EQ(truncate(path("memory").c_str(), 0), 0);
    expect_refused(source(), EBADMSG, "is empty");
}

TEST_F(Import, RefusesWrongPageSize) {
    auto from = source();
    for (const std::uint64_t size : {0ULL, 5ULL, 8192ULL, 1ULL << 30}) {
        from.manifest.page_size = size;
        expect_refused(from, EBADMSG, "page_size");
    }
    ASSERT_EQ(truncate(path("memory").c_str(), kMemorySize + 4096), 0);
    from.manifest.page_size = kPageSize2M;
    expect_refused(from, EBADMSG, "not a multiple of the page size");
}

TEST_F(Import, RefusesSymlinksAndOddFiles) {
    auto from = source();
    ASSERT_EQ(symlink(path("memory").c_str(), path("link").c_str()), 0);
    from.memory_path = path("link");
    expect_refused(from, ELOOP, "symbolic link");
    from = source();
    from.state_path = path("link");
    expect_refused(from, ELOOP, "symbolic link");
    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    from.state_path = path("fifo");
    expect_refused(from, EBADMSG, "not a regular file");
    from.state_path = path("images");
    expect_refused(from, EBADMSG, "not a regular file");
    from.state_path = path("absent");
    expect_refused(from, ENOENT, "absent");
}

TEST_F(Import, RefusesBadSettings) {
    auto from = source();
    from.manifest.drives = {{"rootfs", "../root.ext4"}};
    expect_refused(from, EBADMSG, "drives[0].path");
    from.manifest.drives = {{"rootfs", "root.ext4", false, true}};
    expect_refused(from, EBADMSG, "shared but not read-only");
}

TEST_F(Import, CancelsCleanly) {
    for (const std::uint64_t stop_at : {0ULL, 1ULL, kMemorySize + 1ULL, 2 * kMemorySize + 0ULL}) {
        std::uint64_t seen = 0;
        const auto imported = store_.import("web", source(), [&](auto done, auto total) {
            EXPECT_LE(done, total);
            EXPECT_LE(seen, done);
            seen = done;
            return done < stop_at;
        });
        ASSERT_FALSE(imported);
        EXPECT_EQ(imported.error().code(), ECANCELED);
        EXPECT_TRUE(root_entries().empty());
    }
}

TEST_F(Import, NoticesASourceThatChanges) {
    bool done_once = false;
    const auto imported = store_.import("web", source(), [&](auto done, auto) {
        if (done >= kMemorySize && !std::exchange(done_once, true))
            put(path("memory"), std::string(kMemorySize, 'z'));
        return true;
    });
    ASSERT_FALSE(imported);
    EXPECT_EQ(imported.error().code(), EBUSY) << imported.error().message();
    EXPECT_TRUE(root_entries().empty());
}

TEST_F(Import, MoveTakesTheFilesThemselves) {
    const auto inode = stat_of(path("memory")).st_ino;
    auto from = source();
    from.move = true;
    ASSERT_TRUE(store_.import("web", from, {}));
    expect_sample(store_, "web");
    EXPECT_EQ(stat_of(in_image("web", "memory")).st_ino, inode);
    EXPECT_NE(access(path("memory").c_str(), F_OK), 0);
    EXPECT_NE(access(path("state").c_str(), F_OK), 0);
}

TEST_F(Import, FailedMoveKeepsTheSources) {
    auto from = source();
    from.move = true;
    const auto imported =
        store_.import("web", from, [](auto done, auto total) { return done < total; });
    ASSERT_FALSE(imported);
    EXPECT_EQ(get(path("memory")), sample_memory());
    EXPECT_TRUE(root_entries().empty());
}

// Holes of the source stay holes, and the map knows zero pages by content, hole or not.
TEST_F(Import, KeepsHoles) {
    const auto sparse = open_file(path("memory"), O_WRONLY | O_TRUNC);
    ASSERT_EQ(ftruncate(sparse->get(), 64 << 20), 0);
    ASSERT_EQ(pwrite(sparse->get(), "data", 4, 32 << 20), 4);
    import_sample("web");
    const auto image = store_.open("web");
    ASSERT_TRUE(image);
    EXPECT_TRUE(store_.verify("web", {}));
    EXPECT_EQ(get(in_image("web", "memory")), get(path("memory")));
    EXPECT_LE(stat_of(in_image("web", "memory")).st_blocks, 1 << 11);
    EXPECT_LT(image->manifest.memory_map.size, 200000U);
}

TEST_F(Import, CopiesBetweenFileSystems) {
    char other[] = "/dev/shm/thaw-image-XXXXXX";
    if (mkdtemp(other) == nullptr) GTEST_SKIP() << "no second file system";
    const Store store(other);
    EXPECT_TRUE(store.import("web", source(), {}));
    expect_sample(store, "web");
    EXPECT_TRUE(remove_tree(other));
}

} // namespace
} // namespace thaw::image
