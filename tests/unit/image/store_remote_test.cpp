// SPDX-License-Identifier: MIT

// An image whose memory is somewhere else: made of an image that is there, and made local again.

#include "fixture.hpp"
#include "image/seal.hpp"
#include "image/store_remote.hpp"

#include <sys/stat.h>
#include <unistd.h>

namespace thaw::image::testing {
namespace {

class RemoteTest : public StoreTest {
protected:
    void SetUp() override {
        StoreTest::SetUp();
        origin_ = import_sample("origin");
    }
    Manifest remote_manifest() const {
        auto manifest = origin_;
        manifest.source = RemoteSource{
            .memory = {"https://example.org/memory", {origin_.memory.size, "\"1\"", ""}},
            .rootfs = {},
        };
        return manifest;
    }
    static void write(const Fd& fd, std::string_view content) {
        ASSERT_TRUE(write_all(fd.get(), content));
    }
    // A draft with everything but the memory.
    std::unique_ptr<Draft> draft(const std::string& name) const {
        auto made = Draft::create(store_, name);
        EXPECT_TRUE(made) << made.error().message();
        for (const char* file : {kDefaultStateFile, kMemoryMapFile})
            write(*(*made)->make_file(file), get(in_image("origin", file)));
        return std::move(*made);
    }
    void add_remote(const std::string& name) const {
        const auto published = draft(name)->publish(remote_manifest(), nullptr);
        ASSERT_TRUE(published) << published.error().message();
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
    const auto memory = get(in_image("origin", kDefaultMemoryFile));
    {
        auto arrival = Arrival::begin(store_, "remote");
        ASSERT_TRUE(arrival) << arrival.error().message();
        // Zero pages need not come; the others are missed.
        EXPECT_TRUE((*arrival)->check(700 * kMapPageSize, 200 * kMapPageSize));
        const auto missing = (*arrival)->check(0, kMemorySize);
        ASSERT_FALSE(missing);
        EXPECT_EQ(missing.error().code(), ESTALE);
        EXPECT_NE(missing.error().message().find("page 1 "), std::string::npos);
        EXPECT_EQ(Arrival::begin(store_, "remote").error().code(), EBUSY);
    }
    // Given up: as if nothing had been.
    EXPECT_TRUE(store_.open("remote", Store::Remote::Allow)->manifest.source);
    EXPECT_EQ(store_.clean().value(), 0U);
    {
        auto arrival = Arrival::begin(store_, "remote");
        ASSERT_TRUE(arrival) << arrival.error().message();
        ASSERT_EQ(
            pwrite((*arrival)->memory(), memory.data(), memory.size(), 0),
            static_cast<ssize_t>(memory.size())
        );
        EXPECT_TRUE((*arrival)->check(0, kMemorySize));
        const auto finished = (*arrival)->finish(nullptr);
        ASSERT_TRUE(finished) << finished.error().message();
    }
    expect_sample(store_, "remote");
    EXPECT_EQ(Arrival::begin(store_, "remote").error().code(), EALREADY);
    EXPECT_EQ(get(in_image("remote", kManifestFile)), get(in_image("origin", kManifestFile)));
}

} // namespace
} // namespace thaw::image::testing
