// SPDX-License-Identifier: MIT

#include "core/file.hpp"
#include "image/layers.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>

#include <cstring>
#include <random>

namespace thaw::image {
namespace {

constexpr std::uint64_t kLayeredPages = 200;

ImageId id_of(std::uint8_t number) {
    ImageId id{};
    id[0] = number;
    return id;
}

PageBitmap
pages_of(std::initializer_list<std::uint64_t> pages, std::uint64_t count = kLayeredPages) {
    PageBitmap bitmap(count);
    for (const auto page : pages)
        bitmap.set(page);
    return bitmap;
}

Fd file_of(std::span<const std::byte> bytes) {
    Fd file(memfd_create("layers", MFD_CLOEXEC));
    EXPECT_TRUE(write_all(file.get(), bytes));
    return file;
}

Result<LayerTable> load(std::span<const std::byte> bytes, const ImageId& id) {
    const auto file = file_of(bytes);
    return LayerTable::load(file.get(), id);
}

std::vector<std::byte> two_layers() {
    return build_layers(id_of(2), id_of(1), nullptr, pages_of({0, 1, 2, 64, 199})).value();
}

// ---- bitmaps --------------------------------------------------------------------------------

TEST(PageBitmap, RunsAreWhatTheBitsSay) {
    std::mt19937_64 random(7);
    for (const std::uint64_t count : {1U, 63U, 64U, 65U, 200U, 1000U}) {
        PageBitmap bitmap(count);
        for (std::uint64_t page = 0; page < count; ++page)
            if (random() % 100 < count % 90) bitmap.set(page);
        std::uint64_t set = 0;
        for (std::uint64_t page = 0; page < count; ++page) {
            std::uint64_t run = 1;
            while (page + run < count && bitmap.test(page + run) == bitmap.test(page))
                ++run;
            EXPECT_EQ(bitmap.run_length(page), run) << page << " of " << count;
            set += bitmap.test(page) ? 1 : 0;
        }
        EXPECT_EQ(bitmap.count(), set);
    }
}

TEST(PageBitmap, RefusesWhatDoesNotFit) {
    std::vector<std::byte> bytes(PageBitmap::encoded_size(70));
    EXPECT_TRUE(PageBitmap::decode(bytes, 70));
    EXPECT_EQ(PageBitmap::decode(bytes, 64).error().code(), EBADMSG);
    EXPECT_EQ(PageBitmap::decode(bytes, 129).error().code(), EBADMSG);
    bytes[8] = std::byte{0x40}; // page 70 of 70
    EXPECT_EQ(PageBitmap::decode(bytes, 70).error().code(), EBADMSG);
    bytes[8] = std::byte{0x20};
    EXPECT_TRUE(PageBitmap::decode(bytes, 70)->test(69));
}

TEST(PageBitmap, WidensToWholePagesOfTheMapping) {
    auto bitmap = pages_of({9, 17, 18, 95}, 96);
    bitmap.widen(8);
    for (std::uint64_t page = 0; page < 96; ++page)
        EXPECT_EQ(bitmap.test(page), page / 8 == 1 || page / 8 == 2 || page / 8 == 11) << page;
}

// ---- tables ---------------------------------------------------------------------------------

TEST(Layers, SayWhichImageHasAPage) {
    const auto table = load(two_layers(), id_of(2));
    ASSERT_TRUE(table) << table.error().message();
    EXPECT_EQ(table->layer_count(), 2U);
    EXPECT_EQ(table->ids()[1], id_of(1));
    EXPECT_EQ(table->own_pages(), 5U);
    for (std::uint64_t page = 0; page < kLayeredPages; ++page)
        EXPECT_EQ(table->find(page).layer, page < 3 || page == 64 || page == 199 ? 0U : 1U) << page;
    EXPECT_EQ(table->find(1).pages, 2U);
    EXPECT_EQ(table->find(3).pages, 61U);
    EXPECT_EQ(table->find(199).pages, 1U);
}

TEST(Layers, AreLaidOverEachOther) {
    const auto lower = load(two_layers(), id_of(2));
    ASSERT_TRUE(lower);
    const auto bytes = build_layers(id_of(3), id_of(2), &*lower, pages_of({1, 100}));
    ASSERT_TRUE(bytes);
    const auto table = load(*bytes, id_of(3));
    ASSERT_TRUE(table) << table.error().message();
    ASSERT_EQ(table->layer_count(), 3U);
    EXPECT_EQ(table->ids()[2], id_of(1));
    for (std::uint64_t page = 0; page < kLayeredPages; ++page) {
        const std::size_t layer = page == 1 || page == 100 ? 0 : 1 + lower->find(page).layer;
        EXPECT_EQ(table->find(page).layer, layer) << page;
    }
}

TEST(Layers, MayHoldNothingOrEverything) {
    const auto none =
        load(build_layers(id_of(2), id_of(1), nullptr, pages_of({})).value(), id_of(2));
    ASSERT_TRUE(none);
    EXPECT_EQ(none->own_pages(), 0U);
    PageBitmap all(kLayeredPages);
    for (std::uint64_t page = 0; page < kLayeredPages; ++page)
        all.set(page);
    const auto every = load(build_layers(id_of(2), id_of(1), nullptr, all).value(), id_of(2));
    ASSERT_TRUE(every);
    EXPECT_EQ(every->own_pages(), kLayeredPages);
    EXPECT_EQ(every->layer_count(), 2U);
}

TEST(Layers, AreOfBoundedDepth) {
    auto bytes = two_layers();
    for (std::uint8_t number = 3; number <= kMaxLayers; ++number) {
        const auto below = load(bytes, id_of(static_cast<std::uint8_t>(number - 1)));
        ASSERT_TRUE(below) << below.error().message();
        auto above = build_layers(
            id_of(number), id_of(static_cast<std::uint8_t>(number - 1)), &*below, pages_of({number})
        );
        ASSERT_TRUE(above) << above.error().message();
        bytes = std::move(*above);
    }
    const auto deepest = load(bytes, id_of(kMaxLayers));
    ASSERT_TRUE(deepest) << deepest.error().message();
    const auto one_more = build_layers(id_of(99), id_of(kMaxLayers), &*deepest, pages_of({1}));
    ASSERT_FALSE(one_more);
    EXPECT_EQ(one_more.error().code(), EOVERFLOW);
}

// Every byte counts: no flipped bit goes unnoticed.
TEST(Layers, AreRefusedWithAnyBitFlipped) {
    const auto good = two_layers();
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        auto bytes = good;
        bytes[bit / 8] ^= std::byte{static_cast<unsigned char>(1U << bit % 8)};
        EXPECT_FALSE(load(bytes, id_of(2))) << "bit " << bit;
    }
}

TEST(Layers, AreRefusedWhenCutOrOfAnother) {
    const auto good = two_layers();
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{10}, sizeof(LayerHeader), good.size() - 1,
          good.size() - sizeof(LayerRun)})
        EXPECT_EQ(load(std::span(good).first(size), id_of(2)).error().code(), EBADMSG) << size;
    auto longer = good;
    longer.push_back({});
    EXPECT_EQ(load(longer, id_of(2)).error().code(), EBADMSG);
    EXPECT_EQ(load(good, id_of(7)).error().code(), ESTALE);
}

// What a checksum cannot tell: a writer gone mad.
TEST(Layers, AreRefusedWhenTheyDoNotHoldTogether) {
    struct Parts {
        LayerHeader header;
        std::vector<ImageId> ids;
        std::vector<LayerRun> runs;
    };
    const auto tried = [](const std::function<void(Parts&)>& change) {
        Parts parts{
            {.id = id_of(2), .page_count = kLayeredPages, .layer_count = 2},
            {id_of(2), id_of(1)},
            {{0, 0}, {5, 1}, {50, 0}}
        };
        change(parts);
        parts.header.run_count = parts.runs.size();
        parts.header.checksum = layers_checksum(parts.header, parts.ids, parts.runs);
        std::vector<std::byte> bytes;
        const auto append = [&](const void* from, std::size_t size) {
            const auto* at = static_cast<const std::byte*>(from);
            bytes.insert(bytes.end(), at, at + size);
        };
        append(&parts.header, sizeof parts.header);
        append(parts.ids.data(), parts.ids.size() * sizeof(ImageId));
        append(parts.runs.data(), parts.runs.size() * sizeof(LayerRun));
        return load(bytes, id_of(2)).has_value();
    };
    EXPECT_TRUE(tried([](Parts&) {}));
    EXPECT_FALSE(tried([](Parts& p) { p.runs[0].first_page = 1; })) << "begins late";
    EXPECT_FALSE(tried([](Parts& p) { p.runs[1].layer = 2; })) << "unknown layer";
    EXPECT_FALSE(tried([](Parts& p) { p.runs[1].layer = 0; })) << "two runs that are one";
    EXPECT_FALSE(tried([](Parts& p) { p.runs[2].first_page = 5; })) << "empty run";
    EXPECT_FALSE(tried([](Parts& p) { p.runs[2].first_page = kLayeredPages; })) << "beyond the end";
    EXPECT_FALSE(tried([](Parts& p) { p.runs.clear(); })) << "no runs";
    EXPECT_FALSE(tried([](Parts& p) { p.ids[1] = p.ids[0]; })) << "its own base";
    EXPECT_FALSE(tried([](Parts& p) { p.ids[0] = id_of(9); })) << "foreign first id";
    EXPECT_FALSE(tried([](Parts& p) {
        p.header.layer_count = 1;
        p.ids.resize(1);
    })) << "one layer";
    EXPECT_FALSE(tried([](Parts& p) {
        p.header.layer_count = kMaxLayers + 1;
        for (std::uint8_t i = 3; p.ids.size() <= kMaxLayers; ++i)
            p.ids.push_back(id_of(i));
    })) << "too deep";
    EXPECT_FALSE(tried([](Parts& p) { p.header.page_size = 8192; })) << "page size";
}

} // namespace
} // namespace thaw::image
