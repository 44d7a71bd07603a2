// SPDX-License-Identifier: MIT

// An image whose memory is somewhere else: made of an image that is there, and made local again.

#include "fixture.hpp"
#include "image/seal.hpp"
#include "image/store_remote.hpp"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace thaw::image::testing {
namespace {

class RemoteTest : public StoreTest {
protected:
    void SetUp() override {
        StoreTest::SetUp();
        origin_ = make_origin();
    }
    virtual Manifest make_origin() const { return import_sample("origin"); }
    Manifest remote_manifest() const {
        auto manifest = origin_;
        manifest.source = RemoteSource{
            .memory = {"https://example.org/memory", {origin_.memory.size, "\"1\"", ""}},
            .rootfs = {},
        };
        if (const auto& rootfs = origin_.rootfs)
            manifest.source->rootfs =
                RemoteFile{"https://example.org/rootfs", {rootfs->file.size, "\"2\"", ""}};
        return manifest;
    }
    static void write(const Fd& fd, std::string_view content) {
        ASSERT_TRUE(write_all(fd.get(), content));
    }
    // A draft with everything but the memory.
    std::unique_ptr<Draft> draft(const std::string& name) const {
        auto made = Draft::create(store_, name);
        EXPECT_TRUE(made) << made.error().message();
        std::vector<const char*> files{kDefaultStateFile, kMemoryMapFile};
        if (origin_.rootfs) files.push_back(kRootfsMapFile);
        for (const char* file : files)
            write(*(*made)->make_file(file), get(in_image("origin", file)));
        return std::move(*made);
    }
    void add_remote(const std::string& name) const {
        const auto published = draft(name)->publish(remote_manifest(), nullptr);
        ASSERT_TRUE(published) << published.error().message();
    }
    // Brings everything from where it came from.
    void pull(const std::string& name) const {
        auto arrival = Arrival::begin(store_, name);
        ASSERT_TRUE(arrival) << arrival.error().message();
        for (const auto& file : (*arrival)->files()) {
            const auto url = file.source().url;
            const auto content = get(in_image("origin", url.substr(url.rfind('/') + 1)));
            ASSERT_EQ(
                pwrite(file.fd(), content.data(), content.size(), 0),
                static_cast<ssize_t>(content.size())
            );
            EXPECT_TRUE(file.check(0, file.size()));
        }
        const auto finished = (*arrival)->finish(nullptr);
        ASSERT_TRUE(finished) << finished.error().message();
        expect_sample(store_, name);
        EXPECT_EQ(get(in_image(name, kManifestFile)), get(in_image("origin", kManifestFile)));
    }
    Manifest origin_;
};

TEST_F(RemoteTest, HasNoMemoryAndSaysSo) {
    add_remote("remote");
    const auto opened = store_.open("remote", Store::Remote::Allow);
    ASSERT_TRUE(opened) << opened.error().message();
    EXPECT_FALSE(opened->memory);
    EXPECT_TRUE(opened->memory_map);
    EXPECT_EQ(opened->manifest.id, origin_.id);
    EXPECT_EQ(opened->manifest.source->memory.url, "https://example.org/memory");
    for (const auto& refused : {store_.open("remote").error(), store_.verify("remote", {}).error()})
        EXPECT_EQ(refused.bus_name(), kErrorImageIsRemote) << refused.message();
    const auto list = store_.list();
    ASSERT_TRUE(list);
    EXPECT_TRUE(list->back().manifest) << list->back().manifest.error().message();
    // Nothing can be laid over what is not here.
    auto difference = source();
    difference.base = "remote";
    difference.present = PageBitmap(kMemorySize / kPageSize4K);
    const auto over = store_.import("over", difference, {});
    ASSERT_FALSE(over);
    EXPECT_EQ(over.error().bus_name(), kErrorImageIsRemote) << over.error().message();
    struct stat status{};
    ASSERT_EQ(stat(in_image("remote", kMemoryMapFile).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, kFileMode);
}

TEST_F(RemoteTest, FilesThatAreNotTheSealedOnesMakeNoImage) {
    const auto before = root_entries();
    {
        auto bad = Draft::create(store_, "bad");
        ASSERT_TRUE(bad);
        write(*(*bad)->make_file(kDefaultStateFile), get(in_image("origin", kDefaultStateFile)));
        auto map = get(in_image("origin", kMemoryMapFile));
        map[100] = static_cast<char>(map[100] ^ 1);
        write(*(*bad)->make_file(kMemoryMapFile), map);
        const auto published = (*bad)->publish(remote_manifest(), nullptr);
        ASSERT_FALSE(published);
        EXPECT_EQ(published.error().code(), ESTALE) << published.error().message();
    }
    // Without a map nothing that comes later could be checked.
    EXPECT_FALSE((*Draft::create(store_, "bad"))->publish(remote_manifest(), nullptr));
    EXPECT_EQ(Draft::create(store_, "origin").error().code(), EEXIST);
    EXPECT_EQ(root_entries(), before);
}

TEST_F(RemoteTest, BecomesLocalOnceEveryPageIsThere) {
    add_remote("remote");
    {
        auto arrival = Arrival::begin(store_, "remote");
        ASSERT_TRUE(arrival) << arrival.error().message();
        ASSERT_EQ((*arrival)->files().size(), 1U);
        const auto& memory = (*arrival)->files()[0];
        // Zero pages need not come; the others are missed.
        EXPECT_TRUE(memory.check(700 * kMapPageSize, 200 * kMapPageSize));
        expect_error(memory.check(0, kMemorySize), ESTALE, "memory: page 1 ");
        EXPECT_EQ(Arrival::begin(store_, "remote").error().code(), EBUSY);
    }
    // Given up: as if nothing had been.
    EXPECT_TRUE(store_.open("remote", Store::Remote::Allow)->manifest.source);
    EXPECT_EQ(store_.clean().value(), 0U);
    pull("remote");
    EXPECT_EQ(Arrival::begin(store_, "remote").error().code(), EALREADY);
}

class RemoteRootfs : public RemoteTest {
protected:
    Manifest make_origin() const override { return import_with_rootfs("origin"); }
};

TEST_F(RemoteRootfs, IsRemoteWithTheMemory) {
    add_remote("remote");
    const auto opened = store_.open("remote", Store::Remote::Allow);
    ASSERT_TRUE(opened) << opened.error().message();
    EXPECT_FALSE(opened->rootfs);
    EXPECT_TRUE(opened->rootfs_map);
    flip(in_image("remote", "rootfs.map"), 100);
    expect_error(
        store_.open("remote", Store::Remote::Allow), ESTALE,
        "rootfs.map: content is not the sealed one"
    );
}

TEST_F(RemoteRootfs, MakesNoImageWithoutItsMap) {
    const auto before = root_entries();
    const auto publish = [&](const std::string& map, const Manifest& manifest) {
        const auto made = draft("bad");
        made->drop_file("rootfs.map");
        write(*made->make_file("rootfs.map"), map);
        return made->publish(manifest, nullptr);
    };
    const auto good = get(in_image("origin", "rootfs.map"));
    const auto manifest = remote_manifest();
    auto damaged = good;
    damaged[100] = static_cast<char>(damaged[100] ^ 1);
    expect_error(publish(damaged, manifest), ESTALE, "rootfs.map: is not the sealed one");
    // One that the manifest speaks of, and yet another's: of the memory, or of other pages.
    auto wrong = manifest;
    wrong.rootfs->map = origin_.memory_map;
    wrong.rootfs->map.name = "rootfs.map";
    expect_error(
        publish(get(in_image("origin", "memory.map")), wrong), ESTALE, "rootfs.map: belongs to"
    );
    wrong = manifest;
    wrong.rootfs->file.size += kPageSize4K;
    wrong.source->rootfs->identity.length += kPageSize4K;
    expect_error(publish(good, wrong), EBADMSG, "rootfs.map: made for another size");
    EXPECT_EQ(root_entries(), before);
    EXPECT_TRUE(publish(good, manifest));
}

TEST_F(RemoteRootfs, BecomesLocalWithTheMemory) {
    add_remote("remote");
    {
        auto arrival = Arrival::begin(store_, "remote");
        ASSERT_TRUE(arrival) << arrival.error().message();
        ASSERT_EQ((*arrival)->files().size(), 2U);
        const auto& rootfs = (*arrival)->files()[1];
        EXPECT_EQ(rootfs.source().url, "https://example.org/rootfs");
        auto content = sample_rootfs();
        content[1025 * kMapPageSize] ^= 1;
        ASSERT_EQ(
            pwrite(rootfs.fd(), content.data(), content.size(), 0),
            static_cast<ssize_t>(content.size())
        );
        EXPECT_TRUE(rootfs.check(0, kMapChunkSize));
        expect_error(rootfs.check(kMapChunkSize, 3 * kMapPageSize), ESTALE, "rootfs: page 1025 ");
    }
    EXPECT_EQ(store_.clean().value(), 0U);
    pull("remote");
    EXPECT_TRUE(get(in_image("remote", "rootfs")) == sample_rootfs());
}

TEST_F(RemoteRootfs, StaysWhatItWasWhenAPullIsKilled) {
    add_remote("remote");
    const pid_t child = fork();
    if (child == 0) {
        const auto arrival = Arrival::begin(store_, "remote");
        _exit(arrival ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    EXPECT_TRUE(store_.open("remote", Store::Remote::Allow)->manifest.source);
    EXPECT_EQ(store_.clean().value(), 2U);
    // Or right before the manifest is written.
    put(in_image("remote", "memory"), "in place already");
    put(in_image("remote", "rootfs"), "as well");
    EXPECT_TRUE(store_.open("remote", Store::Remote::Allow)->manifest.source);
    EXPECT_FALSE(store_.open("remote", Store::Remote::Allow)->rootfs);
    pull("remote");
}

} // namespace
} // namespace thaw::image::testing
