// SPDX-License-Identifier: MIT

#include "fixture.hpp"
#include "image/copy.hpp"
#include "image/memory_reader.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::image {
namespace {

using testing::kMemorySize;
using testing::sample_memory;

constexpr std::uint64_t kPages = kMemorySize / kPageSize4K;

class Diff : public testing::StoreTest {
protected:
    void SetUp() override {
        StoreTest::SetUp();
        memory_ = sample_memory();
        import_sample("base");
    }
    // Writes to a page as a guest does; what an image is to hold from now on.
    void change(std::uint64_t page, char with) {
        std::fill_n(memory_.begin() + static_cast<std::ptrdiff_t>(page * kPageSize4K), 4096, with);
        present_.set(page);
    }
    // The source of an image over `base`: a file that has what is present and nonsense elsewhere.
    Store::Source over(const std::string& base) {
        std::string file(kMemorySize, 'Z');
        for (std::uint64_t page = 0; page < kPages; ++page)
            if (present_.test(page)) {
                const auto at = page * kPageSize4K;
                file.replace(at, kPageSize4K, memory_, at, kPageSize4K);
            }
        put(path("memory"), file);
        auto from = source();
        from.base = base;
        from.present = present_;
        return from;
    }
    void expect_memory(const std::string& name) const {
        const auto image = store_.open(name);
        ASSERT_TRUE(image) << image.error().message();
        std::string read(kMemorySize, 'x');
        const MemoryReader reader(*image);
        ASSERT_TRUE(reader.read(std::as_writable_bytes(std::span(read)), 0));
        EXPECT_TRUE(read == memory_);
        const auto verified = store_.verify(name, {});
        EXPECT_TRUE(verified) << verified.error().message();
    }
    void expect_refused(const Store::Source& from, int code, const std::string& text) const {
        const auto entries = root_entries();
        const auto imported = store_.import("new", from, {});
        ASSERT_FALSE(imported);
        EXPECT_EQ(imported.error().code(), code) << imported.error().message();
        EXPECT_NE(imported.error().message().find(text), std::string::npos)
            << imported.error().message();
        EXPECT_EQ(root_entries(), entries);
    }
    void expect_unusable(const std::string& name, int code, const std::string& text) const {
        const auto opened = store_.open(name);
        ASSERT_FALSE(opened);
        EXPECT_EQ(opened.error().code(), code) << opened.error().message();
        EXPECT_NE(opened.error().message().find(text), std::string::npos)
            << opened.error().message();
    }

    std::string memory_; // as the guest has it
    PageBitmap present_{kPages};
};

TEST_F(Diff, HoldsItsPagesAndTheBaseTheOthers) {
    change(0, 'a');
    change(3, '\0'); // was data: now it is zero
    change(5, 'b');  // was zero
    for (std::uint64_t page = 1000; page < 1300; ++page)
        change(page, static_cast<char>('a' + page % 20));
    change(kPages - 1, 'c');
    const auto manifest = store_.import("diff", over("base"), {});
    ASSERT_TRUE(manifest) << manifest.error().message();
    ASSERT_TRUE(manifest->base);
    EXPECT_EQ(manifest->base->name, "base");
    EXPECT_EQ(manifest->memory_size, kMemorySize);
    expect_memory("diff");
    // On disk: its own data and nothing of the base's.
    struct stat st{};
    ASSERT_EQ(stat(in_image("diff", "memory").c_str(), &st), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(st.st_size), kMemorySize);
    EXPECT_LE(st.st_blocks * 512, 310 * 4096 + 65536);
    const auto opened = store_.open("diff");
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->layer_table->own_pages(), 304U);
}

// Holes say nothing: neither a copy that fills them nor one that makes new ones changes the image.
TEST_F(Diff, DoesNotLookAtHoles) {
    change(7, 'q');
    change(8, '\0');
    ASSERT_TRUE(store_.import("diff", over("base"), {}));
    const auto file = open_file(in_image("diff", "memory"), O_RDWR);
    ASSERT_TRUE(file);
    const std::string junk(kPageSize4K, '!');
    for (const std::uint64_t page : {1U, 2U, 900U})
        ASSERT_EQ(
            pwrite(file->get(), junk.data(), junk.size(), static_cast<off_t>(page * 4096)), 4096
        );
    expect_memory("diff");
    // Its own pages do count, holes as well.
    ASSERT_EQ(pwrite(file->get(), junk.data(), junk.size(), 8 * 4096), 4096);
    const auto verified = store_.verify("diff", {});
    ASSERT_FALSE(verified);
    EXPECT_EQ(verified.error().code(), ESTALE);
}

TEST_F(Diff, IsLaidOverOthers) {
    std::string below = "base";
    for (std::size_t depth = 1; depth < kMaxLayers; ++depth) {
        present_ = PageBitmap(kPages);
        change(depth * 10, static_cast<char>('A' + depth));
        change(50, static_cast<char>('a' + depth)); // each hides the one below
        if (depth > 2) change(20, '\0');
        const auto name = "diff" + std::to_string(depth);
        const auto manifest = store_.import(name, over(below), {});
        ASSERT_TRUE(manifest) << manifest.error().message();
        expect_memory(name);
        below = name;
    }
    EXPECT_EQ(store_.open(below)->bases.size(), kMaxLayers - 1);
    expect_refused(over(below), EOVERFLOW, "layers");
}

TEST_F(Diff, KeepsItsBaseFromBeingRemoved) {
    change(7, 'q');
    ASSERT_TRUE(store_.import("diff", over("base"), {}));
    ASSERT_TRUE(store_.import("diff2", over("diff"), {}));
    const auto removed = store_.remove("base");
    ASSERT_FALSE(removed);
    EXPECT_EQ(removed.error().bus_name(), kErrorImageHasLayers);
    EXPECT_NE(removed.error().message().find("diff"), std::string::npos);
    EXPECT_EQ(store_.remove("diff").error().bus_name(), kErrorImageHasLayers);
    expect_memory("diff");
    ASSERT_TRUE(store_.remove("diff2"));
    ASSERT_TRUE(store_.remove("diff"));
    ASSERT_TRUE(store_.remove("base"));
}

// Between the look at a base and the appearance of a layer over it nobody may remove it.
TEST_F(Diff, HoldsItsBaseWhileItIsMade) {
    change(7, 'q');
    bool tried = false;
    const auto imported = store_.import("diff", over("base"), [&](std::uint64_t, std::uint64_t) {
        if (!std::exchange(tried, true)) {
            EXPECT_EQ(store_.remove("base").error().code(), EBUSY);
        }
        return true;
    });
    ASSERT_TRUE(imported) << imported.error().message();
    EXPECT_TRUE(tried);
    expect_memory("diff");
}

TEST_F(Diff, IsUnusableWithoutTheImageItWasMadeOver) {
    change(7, 'q');
    ASSERT_TRUE(store_.import("diff", over("base"), {}));
    const auto images = path("images");
    ASSERT_EQ(rename((images + "/base").c_str(), (images + "/elsewhere").c_str()), 0);
    expect_unusable("diff", ESTALE, "missing");
    const auto listed = store_.list();
    ASSERT_TRUE(listed);
    EXPECT_FALSE(listed->at(0).manifest);
    // The same name, the same bytes, but another image.
    put(path("memory"), sample_memory());
    import_sample("base");
    expect_unusable("diff", ESTALE, "another one");
    ASSERT_EQ(rename((images + "/base").c_str(), (images + "/impostor").c_str()), 0);
    ASSERT_EQ(rename((images + "/elsewhere").c_str(), (images + "/base").c_str()), 0);
    expect_memory("diff");
}

TEST_F(Diff, IsUnusableWithADamagedTable) {
    change(7, 'q');
    ASSERT_TRUE(store_.import("diff", over("base"), {}));
    const auto table = get(in_image("diff", "layers"));
    auto damaged = table;
    damaged.back() = static_cast<char>(damaged.back() ^ 1);
    put(in_image("diff", "layers"), damaged);
    expect_unusable("diff", EBADMSG, "layers");
    ASSERT_EQ(unlink(in_image("diff", "layers").c_str()), 0);
    expect_unusable("diff", ESTALE, "layers: is missing");
    put(in_image("diff", "layers"), table.substr(0, table.size() - 1));
    expect_unusable("diff", ESTALE, "truncated");
}

// A page of the base that rots is found through the difference as well.
TEST_F(Diff, ChecksThePagesOfItsBase) {
    change(7, 'q');
    ASSERT_TRUE(store_.import("diff", over("base"), {}));
    const auto file = open_file(in_image("base", "memory"), O_RDWR);
    ASSERT_TRUE(file);
    ASSERT_EQ(pwrite(file->get(), "!", 1, 7 * 4096 + 5), 1); // hidden by the difference
    EXPECT_TRUE(store_.verify("diff", {}));
    ASSERT_EQ(pwrite(file->get(), "!", 1, 8 * 4096 + 5), 1);
    const auto verified = store_.verify("diff", {});
    ASSERT_FALSE(verified);
    EXPECT_NE(verified.error().message().find("page 8 "), std::string::npos);
}

TEST_F(Diff, RefusesWhatDoesNotFitItsBase) {
    change(7, 'q');
    auto from = over("base");
    from.base = "nowhere";
    expect_refused(from, ENOENT, "no such image");
    from.base = "../base";
    expect_refused(from, EINVAL, "cannot name an image");
    from = over("base");
    from.base_id = ImageId{1, 2, 3};
    expect_refused(from, ESTALE, "another one now");
    from = over("base");
    from.present = PageBitmap(kPages - 64);
    expect_refused(from, EBADMSG, "pages to take");
    from = over("base");
    from.manifest.page_size = kPageSize2M;
    expect_refused(from, EBADMSG, "pages of");
    put(path("memory"), std::string(kMemorySize / 2, 'x'));
    from = source();
    from.base = "base";
    from.present = present_;
    expect_refused(from, EBADMSG, "the base's memory has");
}

TEST_F(Diff, LeavesNothingWhenItIsCanceled) {
    change(7, 'q');
    const auto from = over("base");
    const auto entries = root_entries();
    const auto imported =
        store_.import("diff", from, [](std::uint64_t done, std::uint64_t) { return done == 0; });
    ASSERT_FALSE(imported);
    EXPECT_EQ(imported.error().code(), ECANCELED);
    EXPECT_EQ(root_entries(), entries);
    EXPECT_TRUE(store_.remove("base"));
}

TEST_F(Diff, IsNoPlainImageToOlderPrograms) {
    change(7, 'q');
    ASSERT_TRUE(store_.import("diff", over("base"), {}));
    auto text = get(in_image("diff", "image.json"));
    const std::string version = "\"format_version\": 2";
    const auto at = text.find(version);
    ASSERT_NE(at, std::string::npos);
    text[at + version.size() - 1] = '1';
    put(in_image("diff", "image.json"), text);
    expect_unusable("diff", EBADMSG, "does not fit");
}

} // namespace
} // namespace thaw::image
