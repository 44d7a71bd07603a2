// SPDX-License-Identifier: MIT

// Opening, listing, verifying, sealing, removing: damage of every kind is refused by name.

#include "fixture.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::image {
namespace {

using testing::expect_sample;
using testing::kMemorySize;
using testing::sample_memory;
using testing::sample_page_is_zero;

class Images : public testing::StoreTest {
protected:
    void expect_open_error(const std::string& name, int code, const std::string& text) const {
        const auto image = store_.open(name);
        ASSERT_FALSE(image) << name;
        EXPECT_EQ(image.error().code(), code) << image.error().message();
        EXPECT_NE(image.error().message().find(text), std::string::npos) << image.error().message();
    }
};

TEST_F(Images, OpensWhatWasImported) {
    import_sample("web");
    expect_sample(store_, "web");
}

TEST_F(Images, RefusesNamesThatLeaveTheRoot) {
    for (const char* name : {"", ".", "..", "../x", "/etc", "a/b", ".hidden", "a\nb", "a b"}) {
        expect_open_error(name, EINVAL, "cannot name an image");
        EXPECT_EQ(store_.remove(name).error().code(), EINVAL);
        EXPECT_EQ(store_.seal(name, {}, {}).error().code(), EINVAL);
        EXPECT_EQ(store_.verify(name, {}).error().code(), EINVAL);
        EXPECT_EQ(store_.import(name, source(), {}).error().code(), EINVAL);
    }
}

TEST_F(Images, SaysWhatIsMissing) {
    expect_open_error("web", ENOENT, "no such image");
    const Store nowhere(path("nowhere"));
    EXPECT_EQ(nowhere.open("web").error().code(), ENOENT);
    put(path("images/file"), "x");
    expect_open_error("file", EBADMSG, "not a directory");
    ASSERT_TRUE(make_directories(path("images/raw")));
    expect_open_error("raw", EBADMSG, "not sealed");
}

TEST_F(Images, RefusesSymlinks) {
    import_sample("web");
    ASSERT_EQ(symlink("web", path("images/link").c_str()), 0);
    expect_open_error("link", ELOOP, "symbolic link");
    EXPECT_EQ(store_.remove("link").error().code(), ELOOP);
    EXPECT_EQ(store_.seal("link", {}, {}).error().code(), ELOOP);
    for (const char* file : {"image.json", "memory.map", "vmstate", "memory"}) {
        const auto real = in_image("web", file);
        ASSERT_EQ(rename(real.c_str(), path("aside").c_str()), 0);
        ASSERT_EQ(symlink(path("aside").c_str(), real.c_str()), 0);
        expect_open_error("web", ELOOP, "symbolic link");
        ASSERT_EQ(unlink(real.c_str()), 0);
        ASSERT_EQ(rename(path("aside").c_str(), real.c_str()), 0);
    }
    expect_sample(store_, "web");
}

TEST_F(Images, DoesNotHangOnAFifo) {
    import_sample("web");
    for (const char* file : {"image.json", "memory"}) {
        ASSERT_EQ(unlink(in_image("web", file).c_str()), 0);
        ASSERT_EQ(mkfifo(in_image("web", file).c_str(), 0600), 0);
        expect_open_error("web", EBADMSG, "not a regular file");
    }
}

TEST_F(Images, RefusesTruncatedAndReplacedFiles) {
    import_sample("web");
    for (const char* file : {"memory.map", "vmstate", "memory"}) {
        const auto name = in_image("web", file);
        const auto content = get(name);
        ASSERT_EQ(truncate(name.c_str(), static_cast<off_t>(content.size() - 1)), 0);
        expect_open_error("web", ESTALE, "truncated");
        put(name, content + "x");
        expect_open_error("web", ESTALE, "replaced");
        ASSERT_EQ(unlink(name.c_str()), 0);
        expect_open_error("web", ESTALE, "missing");
        put(name, content);
    }
    expect_sample(store_, "web");
}

TEST_F(Images, NoticesFlippedBits) {
    import_sample("web");
    for (const char* file : {"memory.map", "vmstate"}) {
        const auto name = in_image("web", file);
        const auto size = get(name).size();
        for (const auto at : {std::size_t{0}, size / 2, size - 1}) {
            flip(name, at);
            expect_open_error("web", ESTALE, "not the sealed one");
            flip(name, at);
        }
    }
    expect_sample(store_, "web");
}

TEST_F(Images, VerifyNamesTheFirstBadPage) {
    import_sample("web");
    const auto memory = in_image("web", "memory");
    for (const std::uint64_t page : {0ULL, 1ULL, 750ULL, 1023ULL, 1024ULL, 1535ULL}) {
        flip(memory, page * 4096 + 4095);
        ASSERT_TRUE(store_.open("web")) << "open() checks sizes only";
        const auto verified = store_.verify("web", {});
        ASSERT_FALSE(verified) << page;
        EXPECT_EQ(verified.error().code(), ESTALE);
        EXPECT_NE(verified.error().message().find(fmt::format("page {} ", page)), std::string::npos)
            << verified.error().message();
        flip(memory, page * 4096 + 4095);
    }
    expect_sample(store_, "web");
    const auto stop = [](std::uint64_t, std::uint64_t) { return false; };
    EXPECT_EQ(store_.verify("web", stop).error().code(), ECANCELED);
}

// A damaged manifest that carries its own digests cannot turn zero pages into data or back.
TEST_F(Images, MapOfAnotherImageIsRefused) {
    const auto first = import_sample("one");
    const auto second = import_sample("two");
    EXPECT_NE(first.id, second.id);
    put(in_image("one", "memory.map"), get(in_image("two", "memory.map")));
    expect_open_error("one", ESTALE, "memory.map");
}

TEST_F(Images, ListsGoodAndBadOnes) {
    EXPECT_TRUE(store_.list()->empty());
    import_sample("b");
    import_sample("a");
    import_sample("short");
    ASSERT_EQ(truncate(in_image("short", "memory").c_str(), 4096), 0);
    ASSERT_TRUE(make_directories(path("images/raw")));
    ASSERT_TRUE(make_directories(path("images/.a.0011.partial")));
    ASSERT_EQ(symlink("a", path("images/link").c_str()), 0);
    const auto images = store_.list();
    ASSERT_TRUE(images);
    ASSERT_EQ(images->size(), 5U);
    EXPECT_EQ((*images)[0].name, "a");
    EXPECT_EQ((*images)[0].manifest->memory_size, kMemorySize);
    EXPECT_GT((*images)[0].disk_bytes, 0U);
    EXPECT_EQ((*images)[1].name, "b");
    EXPECT_EQ((*images)[2].manifest.error().code(), ELOOP);
    EXPECT_EQ((*images)[3].manifest.error().code(), EBADMSG);
    EXPECT_EQ((*images)[4].manifest.error().code(), ESTALE);
    EXPECT_EQ(Store(path("nowhere")).list().error().code(), ENOENT);
}

TEST_F(Images, SealsADirectoryInPlace) {
    ASSERT_TRUE(make_directories(path("images/raw")));
    put(in_image("raw", "vmstate"), get(path("state")));
    put(in_image("raw", "memory"), sample_memory());
    put(in_image("raw", ".#thaw0123456789abcdef"), "left by a crash");
    const auto sealed = store_.seal("raw", {}, {});
    ASSERT_TRUE(sealed) << sealed.error().message();
    expect_sample(store_, "raw");
    EXPECT_NE(access(in_image("raw", ".#thaw0123456789abcdef").c_str(), F_OK), 0);
    EXPECT_EQ(store_.seal("raw", {}, {}).error().code(), EEXIST);
    EXPECT_EQ(store_.seal("nothing", {}, {}).error().code(), ENOENT);
}

TEST_F(Images, SealRefusesWhatCannotBeAnImage) {
    ASSERT_TRUE(make_directories(path("images/raw")));
    EXPECT_EQ(store_.seal("raw", {}, {}).error().code(), ENOENT);
    put(in_image("raw", "vmstate"), "s");
    put(in_image("raw", "memory"), std::string(4096 + 1, 'x'));
    EXPECT_EQ(store_.seal("raw", {}, {}).error().code(), EBADMSG);
    put(in_image("raw", "memory"), std::string(8192, 'x'));
    Manifest huge;
    huge.page_size = kPageSize2M;
    EXPECT_EQ(store_.seal("raw", huge, {}).error().code(), EBADMSG);
    Manifest outside;
    outside.memory.name = "../../memory";
    EXPECT_EQ(store_.seal("raw", outside, {}).error().code(), EXDEV);
    put(in_image("raw", "vmstate"), "");
    EXPECT_EQ(store_.seal("raw", {}, {}).error().code(), EBADMSG);
    EXPECT_NE(access(in_image("raw", "image.json").c_str(), F_OK), 0);
}

TEST_F(Images, OneOperationAtATime) {
    import_sample("web");
    const auto held = open_file(path("images/web"), O_RDONLY | O_DIRECTORY);
    ASSERT_EQ(flock(held->get(), LOCK_EX), 0);
    EXPECT_EQ(store_.remove("web").error().code(), EBUSY);
    EXPECT_EQ(store_.seal("web", {}, {}).error().code(), EBUSY);
    expect_sample(store_, "web");
}

TEST_F(Images, RemoveLeavesNothing) {
    import_sample("web");
    import_sample("other");
    const auto open = store_.open("web");
    ASSERT_TRUE(store_.remove("web"));
    EXPECT_EQ(root_entries(), std::vector<std::string>{"other"});
    EXPECT_EQ(store_.remove("web").error().code(), ENOENT);
    // Whoever had it open keeps the bytes.
    std::string page(4096, 'x');
    ASSERT_TRUE(pread_exact(open->memory.get(), std::as_writable_bytes(std::span(page)), 4096));
    EXPECT_EQ(page, sample_memory().substr(4096, 4096));
}

TEST_F(Images, CleanRemovesOnlyLeftovers) {
    import_sample("web");
    ASSERT_TRUE(make_directories(path("images/.x.0123.partial/deep")));
    put(path("images/.x.0123.partial/memory"), "half");
    ASSERT_TRUE(make_directories(path("images/.keep")));
    ASSERT_TRUE(make_directories(path("images/.busy.4567.partial")));
    put(in_image("web", ".#thaw0123456789abcdef"), "left by a crash");
    const auto held = open_file(path("images/.busy.4567.partial"), O_RDONLY | O_DIRECTORY);
    ASSERT_EQ(flock(held->get(), LOCK_EX), 0);
    const auto removed = store_.clean();
    ASSERT_TRUE(removed) << removed.error().message();
    EXPECT_EQ(*removed, 2U);
    EXPECT_EQ(root_entries(), (std::vector<std::string>{".busy.4567.partial", ".keep", "web"}));
    expect_sample(store_, "web");
}

// A leftover whose name points elsewhere must not lead the cleaner there.
TEST_F(Images, CleanDoesNotFollowSymlinks) {
    ASSERT_TRUE(make_directories(path("precious")));
    put(path("precious/data"), "keep me");
    ASSERT_EQ(symlink("../precious", path("images/.x.0123.partial").c_str()), 0);
    ASSERT_TRUE(make_directories(path("images/.y.0123.partial")));
    ASSERT_EQ(symlink("../../precious", path("images/.y.0123.partial/in").c_str()), 0);
    ASSERT_TRUE(store_.clean());
    EXPECT_EQ(get(path("precious/data")), "keep me");
}

} // namespace
} // namespace thaw::image
