// SPDX-License-Identifier: MIT

// Images that are differences, packed into one file and made anew elsewhere.

#include "core/file.hpp"
#include "delta/image_delta.hpp"
#include "delta/output_file.hpp"
#include "fixture.hpp"
#include "image/memory_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace thaw::image {
namespace {

using delta::DeltaFile;
using testing::kMemorySize;
using testing::sample_memory;

constexpr std::uint64_t kDeltaPages = kMemorySize / kPageSize4K;

class ImageDelta : public testing::StoreTest {
protected:
    void SetUp() override {
        StoreTest::SetUp();
        memory_ = sample_memory();
        import_sample("base");
    }
    void change(std::uint64_t page, char with) {
        std::fill_n(memory_.begin() + static_cast<std::ptrdiff_t>(page * kPageSize4K), 4096, with);
        present_.set(page);
    }
    Manifest make(const std::string& name, const std::string& base) {
        put(path("memory"), memory_);
        auto from = source();
        from.base = base;
        from.present = present_;
        present_ = PageBitmap(kDeltaPages);
        auto manifest = store_.import(name, from, {});
        EXPECT_TRUE(manifest) << manifest.error().message();
        return *manifest;
    }
    DeltaFile save(const std::string& name) {
        const auto image = store_.open(name);
        EXPECT_TRUE(image) << image.error().message();
        auto output = delta::OutputFile::create(path(name + ".delta"), delta::Existing::Refuse);
        EXPECT_TRUE(output);
        const auto written = delta::export_image(*image, output->fd(), nullptr);
        EXPECT_TRUE(written) << written.error().message();
        EXPECT_TRUE(output->publish());
        auto file = DeltaFile::open(path(name + ".delta"));
        EXPECT_TRUE(file) << file.error().message();
        return std::move(*file);
    }
    Result<Manifest> load(const std::string& name, const DeltaFile& file) {
        THAW_TRY(const auto manifest, delta::image_manifest(file));
        THAW_TRY(const auto base, delta::find_base(store_, manifest, ""));
        return delta::import_image(store_, name, file, base, nullptr, nullptr);
    }
    void expect_memory(const std::string& name) const {
        const auto image = store_.open(name);
        ASSERT_TRUE(image) << image.error().message();
        std::string read(kMemorySize, 'x');
        ASSERT_TRUE(MemoryReader(*image).read(std::as_writable_bytes(std::span(read)), 0));
        EXPECT_TRUE(read == memory_);
        const auto verified = store_.verify(name, {});
        EXPECT_TRUE(verified) << verified.error().message();
    }
    std::string memory_;
    PageBitmap present_{kDeltaPages};
};

TEST_F(ImageDelta, ComesBackAsTheImageItWas) {
    change(0, 'a');
    change(1, '\0');
    change(700, 'b'); // zero in the base
    change(kDeltaPages - 1, 'c');
    const Manifest made = make("diff", "base");
    const std::string state = get(in_image("diff", "vmstate"));
    const auto file = save("diff");
    EXPECT_EQ(file.content().data_blocks, 3U);
    EXPECT_EQ(file.content().zero_blocks, 1U);
    EXPECT_EQ(file.content().base.id, made.base->id);
    ASSERT_TRUE(store_.remove("diff"));
    const auto loaded = load("again", file);
    ASSERT_TRUE(loaded) << loaded.error().message();
    EXPECT_EQ(loaded->id, made.id);
    EXPECT_EQ(loaded->memory_map.digest, made.memory_map.digest);
    EXPECT_EQ(loaded->layers.digest, made.layers.digest);
    EXPECT_EQ(get(in_image("again", "vmstate")), state);
    expect_memory("again");
}

// What lay over the removed image lies over the one that came back.
TEST_F(ImageDelta, AChainComesBackPieceByPiece) {
    change(5, 'a');
    make("one", "base");
    change(6, 'b');
    change(5, 'x');
    make("two", "one");
    const auto first = save("one");
    const auto second = save("two");
    ASSERT_TRUE(store_.remove("two"));
    ASSERT_TRUE(store_.remove("one"));
    const auto early = load("two", second);
    ASSERT_FALSE(early);
    EXPECT_EQ(early.error().code(), ENOENT);
    EXPECT_NE(early.error().message().find("'one' where it was exported"), std::string::npos);
    ASSERT_TRUE(load("uno", first));
    const auto loaded = load("due", second);
    ASSERT_TRUE(loaded) << loaded.error().message();
    EXPECT_EQ(loaded->base->name, "uno");
    expect_memory("due");
}

TEST_F(ImageDelta, AnotherBaseIsRefused) {
    change(5, 'a');
    make("diff", "base");
    const auto file = save("diff");
    ASSERT_TRUE(store_.remove("diff"));
    std::string other = sample_memory();
    other[4096 * 9] = static_cast<char>(other[4096 * 9] ^ 1);
    put(path("memory"), other);
    ASSERT_TRUE(store_.import("other", source(), {}));
    const auto manifest = delta::image_manifest(file).value();
    const auto named = delta::find_base(store_, manifest, "other");
    ASSERT_FALSE(named);
    EXPECT_EQ(named.error().code(), ESTALE);
    // Passed over that check, the store has its own.
    const auto forced = delta::import_image(store_, "new", file, "other", nullptr, nullptr);
    ASSERT_FALSE(forced);
    EXPECT_EQ(forced.error().code(), ESTALE);
    EXPECT_EQ(root_entries(), (std::vector<std::string>{"base", "other"}));
}

// An image with the base's id and another memory, as a copy that was tampered with.
TEST_F(ImageDelta, ABaseWithItsIdAndOtherPagesIsNoticed) {
    change(5, 'a');
    make("diff", "base");
    const auto file = save("diff");
    ASSERT_TRUE(store_.remove("diff"));
    const auto id = store_.open("base")->manifest.id;
    ASSERT_TRUE(store_.remove("base"));
    std::string other = sample_memory();
    other[4096 * 9] = static_cast<char>(other[4096 * 9] ^ 1);
    put(path("memory"), other);
    auto from = source();
    from.manifest.id = id;
    ASSERT_TRUE(store_.import("base", from, {}));
    const auto loaded = load("new", file);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code(), ESTALE);
    EXPECT_NE(loaded.error().message().find("over this base"), std::string::npos);
    EXPECT_EQ(root_entries(), std::vector<std::string>{"base"});
}

TEST_F(ImageDelta, OnlyDifferencesAndOnlyOnce) {
    const auto image = store_.open("base");
    ASSERT_TRUE(image);
    auto output = delta::OutputFile::create(path("x"), delta::Existing::Refuse);
    const auto whole = delta::export_image(*image, output->fd(), nullptr);
    ASSERT_FALSE(whole);
    EXPECT_EQ(whole.error().code(), EINVAL);
    change(5, 'a');
    make("diff", "base");
    const auto second = load("second", save("diff"));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), EEXIST);
    EXPECT_NE(second.error().message().find("'diff'"), std::string::npos);
}

TEST_F(ImageDelta, DamageAnywhereMakesNoImage) {
    for (const std::uint64_t page : {3, 4, 9})
        change(page, 'd');
    make("diff", "base");
    save("diff");
    ASSERT_TRUE(store_.remove("diff"));
    const std::string whole = get(path("diff.delta"));
    for (std::size_t at = 0; at < whole.size(); at += 411) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ 4);
        put(path("damaged"), damaged);
        const auto file = DeltaFile::open(path("damaged"));
        if (!file) continue;
        const auto loaded = load("new", *file);
        if (loaded) {
            expect_memory("new"); // the byte was padding
            ASSERT_TRUE(store_.remove("new"));
        }
        ASSERT_EQ(root_entries(), std::vector<std::string>{"base"}) << at;
    }
}

} // namespace
} // namespace thaw::image
