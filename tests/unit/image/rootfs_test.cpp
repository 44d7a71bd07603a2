// SPDX-License-Identifier: MIT

// A root file system as a part of an image.

#include "fixture.hpp"
#include "image/memory_map.hpp"

#include <xxhash.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::image {
namespace {

using testing::expect_error;
using testing::expect_sample;
using testing::kMemorySize;
using testing::kRootfsSize;
using testing::sample_rootfs;

class ImageRootfs : public testing::StoreTest {
protected:
    struct stat stat_of(const std::string& file) const {
        struct stat st{};
        EXPECT_EQ(stat(file.c_str(), &st), 0) << file;
        return st;
    }
    void expect_refused(const Store::Source& from, int code, const std::string& text) const {
        const auto entries = root_entries();
        expect_error(store_.import("new", from, {}), code, text);
        EXPECT_EQ(root_entries(), entries);
    }
};

TEST_F(ImageRootfs, IsImportedAndDescribed) {
    const auto manifest = import_with_rootfs("web");
    ASSERT_TRUE(manifest.rootfs);
    expect_sample(store_, "web");
    const auto image = store_.open("web");
    ASSERT_TRUE(image) << image.error().message();
    EXPECT_TRUE(get(in_image("web", "rootfs")) == sample_rootfs());
    std::string page(4096, 'x');
    ASSERT_TRUE(pread_exact(image->rootfs.get(), std::as_writable_bytes(std::span(page)), 4096));
    EXPECT_EQ(page, sample_rootfs().substr(4096, 4096));
    EXPECT_EQ(image->manifest.rootfs->file.size, kRootfsSize);
    // Of all the content, as a root file system's difference has it of its base.
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(sample_rootfs().data(), kRootfsSize));
    const auto recorded = digest_bytes(image->manifest.rootfs->file);
    ASSERT_TRUE(recorded);
    EXPECT_TRUE(std::ranges::equal(*recorded, digest.digest));
    // Its map fits it and nothing else.
    const auto map = MemoryMap::load(image->rootfs_map.get(), rootfs_id(image->manifest.id));
    ASSERT_TRUE(map) << map.error().message();
    EXPECT_EQ(map->page_count(), kRootfsSize / kMapPageSize);
    EXPECT_EQ(map->page_hash(1), hash_page(reinterpret_cast<const std::byte*>(page.data())));
    expect_error(
        MemoryMap::load(image->rootfs_map.get(), image->manifest.id, "rootfs.map"), ESTALE,
        "rootfs.map: belongs to"
    );
    for (const char* file : {"rootfs", "rootfs.map"})
        EXPECT_EQ(stat_of(in_image("web", file)).st_mode & 07777U, 0640U) << file;
    EXPECT_EQ(store_.list()->at(0).manifest->rootfs->file.size, kRootfsSize);
}

TEST_F(ImageRootfs, CountsInTheProgress) {
    constexpr std::uint64_t kAll = kMemorySize + kRootfsSize;
    std::uint64_t seen = 0;
    const auto watch = [&](std::uint64_t all, std::uint64_t stop_at) {
        seen = 0;
        return [&, all, stop_at](std::uint64_t done, std::uint64_t total) {
            EXPECT_EQ(total, all);
            EXPECT_LE(seen, done);
            seen = done;
            return done < stop_at;
        };
    };
    for (const auto stop_at : {kMemorySize + 1, kAll, kAll + kMemorySize, 2 * kAll}) {
        const auto stopped = store_.import("web", source_with_rootfs(), watch(2 * kAll, stop_at));
        ASSERT_FALSE(stopped);
        EXPECT_EQ(stopped.error().code(), ECANCELED);
        EXPECT_TRUE(root_entries().empty());
    }
    ASSERT_TRUE(store_.import("web", source_with_rootfs(), watch(2 * kAll, ~0ULL)));
    EXPECT_EQ(seen, 2 * kAll);
    ASSERT_TRUE(store_.verify("web", watch(kAll, ~0ULL)));
    EXPECT_EQ(seen, kAll);
    EXPECT_EQ(store_.verify("web", watch(kAll, kMemorySize + 1)).error().code(), ECANCELED);
}

TEST_F(ImageRootfs, IsMovedWithItsHoles) {
    const auto sparse = open_file(path("rootfs"), O_WRONLY | O_TRUNC);
    ASSERT_EQ(ftruncate(sparse->get(), 64 << 20), 0);
    ASSERT_EQ(pwrite(sparse->get(), "data", 4, 32 << 20), 4);
    import_with_rootfs("copied");
    EXPECT_LE(stat_of(in_image("copied", "rootfs")).st_blocks, 1 << 11);
    auto from = source_with_rootfs();
    from.move = true;
    const auto inode = stat_of(path("rootfs")).st_ino;
    ASSERT_TRUE(store_.import("moved", from, {}));
    EXPECT_EQ(stat_of(in_image("moved", "rootfs")).st_ino, inode);
    EXPECT_NE(access(path("rootfs").c_str(), F_OK), 0);
    for (const char* name : {"copied", "moved"})
        EXPECT_TRUE(store_.verify(name, {})) << name;
}

TEST_F(ImageRootfs, RefusesWhatIsNone) {
    const auto from = source_with_rootfs();
    for (const std::size_t size : {4095U, 4097U, 512U}) {
        put(path("rootfs"), std::string(size, 'x'));
        expect_refused(from, EBADMSG, "not a multiple of 4096");
    }
    put(path("rootfs"), "");
    expect_refused(from, EBADMSG, "empty");
    ASSERT_EQ(unlink(path("rootfs").c_str()), 0);
    expect_refused(from, ENOENT, "rootfs");
    ASSERT_EQ(symlink("memory", path("rootfs").c_str()), 0);
    expect_refused(from, ELOOP, "symbolic link");
}

TEST_F(ImageRootfs, NoticesASourceThatChanges) {
    bool changed = false;
    const auto imported = store_.import("web", source_with_rootfs(), [&](auto done, auto) {
        if (done >= kMemorySize + kRootfsSize && !std::exchange(changed, true))
            put(path("rootfs"), std::string(kRootfsSize, 'z'));
        return true;
    });
    expect_error(imported, EBUSY, "rootfs");
}

TEST_F(ImageRootfs, DamageHasItsPlace) {
    import_with_rootfs("web");
    const auto file = in_image("web", "rootfs");
    for (const std::uint64_t page : {0ULL, 1000ULL, 1024ULL, 1026ULL}) {
        flip(file, page * 4096 + 17);
        ASSERT_TRUE(store_.open("web")) << "open() checks sizes only";
        expect_error(store_.verify("web", {}), ESTALE, fmt::format("rootfs: page {} ", page));
        flip(file, page * 4096 + 17);
    }
    flip(in_image("web", "rootfs.map"), 100);
    expect_error(store_.open("web"), ESTALE, "rootfs.map: content is not the sealed one");
    flip(in_image("web", "rootfs.map"), 100);
    put(file, sample_rootfs() + std::string(4096, 'x'));
    expect_error(store_.open("web"), ESTALE, "rootfs: has");
    EXPECT_EQ(store_.list()->at(0).manifest.error().code(), ESTALE);
    ASSERT_EQ(unlink(file.c_str()), 0);
    expect_error(store_.open("web"), ESTALE, "rootfs: is missing");
    put(file, sample_rootfs());
    expect_sample(store_, "web");
}

// Whoever goes by the digest, as differences to the root file system do, is not misled.
TEST_F(ImageRootfs, VerifyComparesTheDigest) {
    auto manifest = import_with_rootfs("web");
    manifest.rootfs->file.digest = manifest.state.digest;
    put(in_image("web", "image.json"), format_manifest(manifest));
    ASSERT_TRUE(store_.open("web"));
    expect_error(store_.verify("web", {}), ESTALE, "rootfs: content is not the sealed one");
}

TEST_F(ImageRootfs, IsSealedInPlaceWhenNamed) {
    ASSERT_TRUE(make_directories(path("images/raw")));
    put(in_image("raw", "vmstate"), get(path("state")));
    put(in_image("raw", "memory"), get(path("memory")));
    put(in_image("raw", "root.ext4"), sample_rootfs());
    Manifest given;
    given.rootfs.emplace();
    expect_error(store_.seal("raw", given, {}), ENOENT, "rootfs");
    given.rootfs->file.name = "memory";
    expect_error(store_.seal("raw", given, {}), EBADMSG, "another file of the image");
    given.rootfs->file.name = "root.ext4";
    const auto sealed = store_.seal("raw", given, {});
    ASSERT_TRUE(sealed) << sealed.error().message();
    EXPECT_EQ(sealed->rootfs->file.name, "root.ext4");
    expect_sample(store_, "raw");
    EXPECT_TRUE(store_.open("raw")->rootfs);
}

TEST_F(ImageRootfs, StaysWithTheBaseOfADifference) {
    import_with_rootfs("base");
    auto over = source_with_rootfs();
    over.base = "base";
    over.present = PageBitmap(kMemorySize / kPageSize4K);
    over.present.set(3);
    expect_refused(over, EBADMSG, "a difference has no root file system");
    over.rootfs_path.clear();
    const auto made = store_.import("over", over, {});
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_FALSE(made->rootfs);
    EXPECT_FALSE(store_.open("over")->rootfs);
    EXPECT_TRUE(store_.verify("over", {}));
}

} // namespace
} // namespace thaw::image
