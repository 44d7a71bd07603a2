// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "region_list.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace thaw::pagerd {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr RegionLimits k8MiB{.memory_size = 8 * kMiB, .page_size = 4096, .max_regions = 4};
constexpr RegionLimits k16MiB{.memory_size = 16 * kMiB, .page_size = 4096, .max_regions = 4};

GuestRegion region(std::uint64_t address, std::uint64_t size, std::uint64_t offset) {
    return {address, size, offset, 4096};
}

void expect_name(const Result<>& result, std::string_view name) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().bus_name(), name) << result.error().message();
}

// ---- where the array ends ----------------------------------------------------------------------

TEST(ArrayScanner, FindsTheEndInParts) {
    const std::string text = R"( [{"a":"]}\"[","b":[1]},{}] )";
    for (std::size_t cut = 0; cut < text.size(); ++cut) {
        ArrayScanner scanner;
        scanner.feed(text.substr(0, cut));
        EXPECT_EQ(scanner.feed(text.substr(cut)), ArrayScanner::State::Complete) << cut;
    }
    ArrayScanner bytewise;
    for (std::size_t i = 0; i + 2 < text.size(); ++i) {
        bytewise.feed(text.substr(i, 1));
        EXPECT_EQ(bytewise.state(), ArrayScanner::State::Incomplete) << i;
    }
    bytewise.feed(text.substr(text.size() - 2));
    EXPECT_EQ(bytewise.state(), ArrayScanner::State::Complete);
}

TEST(ArrayScanner, RefusesWhatIsNoArray) {
    for (const auto* text : {"{", "x", "]", "\"[\"", "[]x", "[][]", "[]]", "1"}) {
        ArrayScanner scanner;
        EXPECT_EQ(scanner.feed(text), ArrayScanner::State::Invalid) << text;
        EXPECT_EQ(scanner.feed("[]"), ArrayScanner::State::Invalid) << text;
    }
}

TEST(ArrayScanner, RefusesDeepNesting) {
    ArrayScanner scanner;
    EXPECT_EQ(scanner.feed(std::string(1000, '[')), ArrayScanner::State::Invalid);
}

// ---- generations -------------------------------------------------------------------------------

TEST(RegionList, Firecracker1_1HasNoPageSize) {
    const auto regions =
        parse_region_list(R"([{"base_host_virt_addr":140000000004096,"size":8388608,"offset":0}])");
    ASSERT_TRUE(regions) << regions.error().message();
    ASSERT_EQ(regions->size(), 1U);
    EXPECT_EQ(regions->front(), (GuestRegion{140000000004096, 8388608, 0, 4096}));
}

TEST(RegionList, Firecracker1_7CountsPageSizeKibInBytes) {
    const auto regions = parse_region_list(
        R"([{"base_host_virt_addr":2097152,"size":2097152,"offset":0,"page_size_kib":2097152}])"
    );
    ASSERT_TRUE(regions);
    EXPECT_EQ(regions->front().page_size, 2 * kMiB);
}

TEST(RegionList, Firecracker1_12PageSizeWins) {
    const auto regions = parse_region_list(
        R"([{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size":4096,
            "page_size_kib":2097152,"new_member":{"x":[1]}},
            {"base_host_virt_addr":8192,"size":4096,"offset":4096,"page_size":4096}])"
    );
    ASSERT_TRUE(regions) << regions.error().message();
    EXPECT_EQ(regions->size(), 2U);
    EXPECT_EQ(regions->front().page_size, 4096U);
}

TEST(RegionList, RefusesMalformedLists) {
    for (const auto* text : {
             "",
             "[",
             "{}",
             "[1]",
             "[null]",
             "[[]]",
             "[{}]",
             R"([{"base_host_virt_addr":"4096","size":4096,"offset":0}])",
             R"([{"base_host_virt_addr":4096,"size":-1,"offset":0}])",
             R"([{"base_host_virt_addr":4096,"size":4096.5,"offset":0}])",
             R"([{"base_host_virt_addr":4096,"size":4096}])",
             R"([{"size":4096,"offset":0}])",
             R"([{"base_host_virt_addr":4096,"offset":0}])",
             R"([{"base_host_virt_addr":99999999999999999999999,"size":4096,"offset":0}])",
             R"([{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size":"4K"}])",
             R"([{"base_host_virt_addr":4096,"size":4096,"offset":0},])",
         }) {
        const auto regions = parse_region_list(text);
        ASSERT_FALSE(regions) << text;
        EXPECT_EQ(regions.error().bus_name(), pager1::error::kHandshakeInvalid) << text;
    }
}

// ---- validation --------------------------------------------------------------------------------

TEST(RegionLimits, AcceptsAnExactTiling) {
    EXPECT_TRUE(validate_regions({region(4096, 16 * kMiB, 0)}, k16MiB));
    // Any order, gaps in the address space.
    EXPECT_TRUE(validate_regions(
        {region(64 * kMiB, 12 * kMiB, 4 * kMiB), region(kMiB, 4 * kMiB, 0)}, k16MiB
    ));
}

TEST(RegionLimits, NamesWhatIsWrong) {
    const auto bad = pager1::error::kRegionsInvalid;
    expect_name(validate_regions({}, k16MiB), bad);
    expect_name(validate_regions({region(0, 16 * kMiB, 0)}, k16MiB), bad);
    expect_name(validate_regions({region(4096, 0, 0)}, k16MiB), bad);
    expect_name(validate_regions({region(4097, 16 * kMiB, 0)}, k16MiB), bad);
    expect_name(validate_regions({region(4096, 16 * kMiB - 1, 0)}, k16MiB), bad);
    expect_name(validate_regions({region(4096, 15 * kMiB, 1)}, k16MiB), bad);
    // Beyond the image, also by a sum that wraps.
    expect_name(validate_regions({region(4096, 16 * kMiB, 4096)}, k16MiB), bad);
    expect_name(validate_regions({region(4096, 4096, UINT64_MAX - 4095)}, k16MiB), bad);
    expect_name(validate_regions({region(4096, UINT64_MAX - 4095, 4096)}, k16MiB), bad);
    // Around the end of the address space.
    expect_name(validate_regions({region(UINT64_MAX - 4095, 16 * kMiB, 0)}, k16MiB), bad);
    // Overlaps.
    expect_name(
        validate_regions({region(4096, 8 * kMiB, 0), region(8 * kMiB, 8 * kMiB, 8 * kMiB)}, k16MiB),
        bad
    );
    expect_name(
        validate_regions(
            {region(4096, 8 * kMiB, 0), region(64 * kMiB, 8 * kMiB, 4 * kMiB)}, k16MiB
        ),
        bad
    );
    // Page sizes.
    expect_name(validate_regions({{4096, 16 * kMiB, 0, 8192}}, k16MiB), bad);
    expect_name(validate_regions({{4096, 16 * kMiB, 0, 0}}, k16MiB), bad);
    expect_name(
        validate_regions(
            {{2 * kMiB, 8 * kMiB, 0, 2 * kMiB}, region(kMiB * 64, 8 * kMiB, 8 * kMiB)}, k16MiB
        ),
        bad
    );
    // Too many.
    std::vector<GuestRegion> many;
    for (std::uint64_t i = 0; i < 5; ++i)
        many.push_back(region((i + 1) * 8 * kMiB, 4096, i * 4096));
    expect_name(validate_regions(many, k16MiB), bad);
}

TEST(RegionLimits, TellsAnotherImage) {
    const auto mismatch = pager1::error::kImageMismatch;
    expect_name(validate_regions({region(4096, 8 * kMiB, 0)}, k16MiB), mismatch);
    expect_name(validate_regions({{2 * kMiB, 16 * kMiB, 0, 2 * kMiB}}, k16MiB), mismatch);
}

// Whatever is accepted must tile the image: checked page by page, by other means.
TEST(RegionLimits, MutationsNeverPassWrongly) {
    std::mt19937_64 random(1);
    constexpr RegionLimits limits{.memory_size = 64 * 4096, .page_size = 0, .max_regions = 8};
    unsigned accepted = 0;
    for (int round = 0; round < 200000; ++round) {
        std::vector<GuestRegion> regions{
            region(1 << 20, 16 * 4096, 0), region(2 << 20, 16 * 4096, 16 * 4096),
            region(3 << 20, 32 * 4096, 32 * 4096)
        };
        for (unsigned changes = random() % 3; changes > 0; --changes) {
            auto& victim = regions[random() % regions.size()];
            const std::uint64_t values[] = {0,
                                            1,
                                            4096,
                                            16 * 4096,
                                            48 * 4096,
                                            1 << 20,
                                            UINT64_MAX,
                                            UINT64_MAX - 4095,
                                            UINT64_MAX - 65535,
                                            random()};
            auto& field = random() % 2 ? (random() % 2 ? victim.address : victim.size)
                                       : (random() % 8 ? victim.offset : victim.page_size);
            field = values[random() % std::size(values)];
        }
        if (!validate_regions(regions, limits)) continue;
        ++accepted;
        std::vector<bool> covered(64);
        for (const auto& r : regions) {
            ASSERT_EQ(r.size % 4096 + r.offset % 4096 + r.address % 4096, 0U);
            for (auto page = r.offset / 4096; page < (r.offset + r.size) / 4096; ++page) {
                ASSERT_LT(page, 64U);
                ASSERT_FALSE(covered[page]);
                covered[page] = true;
            }
        }
        ASSERT_EQ(std::count(covered.begin(), covered.end(), true), 64);
    }
    EXPECT_GT(accepted, 1000U);
}

// Bytes change or go; and the size is another number of pages, which only the sum gives away.
TEST(RegionList, MutatedTextIsRefusedOrValid) {
    const std::string good =
        R"([{"base_host_virt_addr":140000000004096,"size":8388608,"offset":0,"page_size":4096}])";
    const std::string size = "8388608";
    std::mt19937_64 random(2);
    unsigned refused = 0;
    unsigned accepted = 0;
    for (int round = 0; round < 50000; ++round) {
        auto text = good;
        if (random() % 4 == 0)
            text.replace(
                text.find(size), size.size(), std::to_string((1 + random() % 4096) * 4096)
            );
        for (unsigned changes = random() % 4; changes > 0; --changes) {
            const auto at = random() % text.size();
            if (random() % 2)
                text[at] = static_cast<char>(random());
            else
                text.erase(at, 1 + random() % 4);
            if (text.empty()) text = "[";
        }
        ArrayScanner scanner;
        scanner.feed(text);
        const auto regions = parse_region_list(text);
        if (!regions || !validate_regions(*regions, k8MiB)) {
            ++refused;
            continue;
        }
        ++accepted;
        ASSERT_EQ(regions->size(), 1U) << text;
        EXPECT_EQ(regions->front().size, k8MiB.memory_size) << text;
        EXPECT_EQ(regions->front().offset, 0U) << text;
        EXPECT_EQ(regions->front().address % 4096, 0U) << text;
    }
    EXPECT_GT(refused, 1000U);
    EXPECT_GT(accepted, 100U);
}

} // namespace
} // namespace thaw::pagerd
