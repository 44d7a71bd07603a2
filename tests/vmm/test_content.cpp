// SPDX-License-Identifier: MIT
#include "command_line.hpp"
#include "guest_memory.hpp"
#include "handshake.hpp"
#include "latency.hpp"
#include "page_ledger.hpp"
#include "profile.hpp"
#include "snapshot_file.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

using namespace thaw::standin;

TEST(Content, image_pages_differ_unless_zero) {
    const ImageRecipe recipe{7, 25};
    std::set<std::uint64_t> digests;
    unsigned zero = 0;
    for (std::uint64_t page = 0; page < 4096; ++page) {
        std::uint8_t bytes[small_page];
        recipe.fill(page, bytes);
        EXPECT_EQ(is_zero_page(bytes), recipe.is_zero(page));
        if (recipe.is_zero(page)) {
            ++zero;
        } else {
            EXPECT_TRUE(digests.insert(page_digest(bytes)).second);
        }
    }
    EXPECT_NEAR(zero, 1024, 400);
}

TEST(Content, guest_writes_differ_by_generation_and_stay_off_the_kvm_word) {
    for (std::uint64_t page = 0; page < 256; ++page) {
        std::uint8_t one[small_page] = {};
        std::uint8_t two[small_page] = {};
        apply_guest_write(page, 1, one);
        apply_guest_write(page, 2, two);
        EXPECT_NE(std::memcmp(one, two, small_page), 0);
        EXPECT_LE(guest_stamp_offset(page) + guest_stamp_size, kvm_word_offset);
    }
}

TEST(Layout, splits_above_three_gib) {
    EXPECT_EQ(layout_of(3ULL << 30).size(), 1U);
    const auto regions = layout_of(5ULL << 30);
    ASSERT_EQ(regions.size(), 2U);
    EXPECT_EQ(regions[1].guest_address, 4ULL << 30);
    EXPECT_EQ(regions[1].offset, 3ULL << 30);
    EXPECT_EQ(regions[1].size, 2ULL << 30);
}

TEST(Latency, quantiles_are_within_an_eighth) {
    Latency latency;
    for (std::uint64_t i = 1; i <= 10'000; ++i) {
        latency.record(i * 100);
    }
    EXPECT_EQ(latency.count(), 10'000U);
    EXPECT_EQ(latency.max(), 1'000'000U);
    EXPECT_NEAR(static_cast<double>(latency.quantile(0.5)), 500'000, 500'000 / 8.0);
    EXPECT_NEAR(static_cast<double>(latency.quantile(0.99)), 990'000, 990'000 / 8.0);
}

class Judge : public testing::Test {
protected:
    Judge() {
        EXPECT_TRUE(memory_.map_anonymous(layout_of(1 << 20), small_page));
        while (recipe_.is_zero(page_)) {
            ++page_;
        }
        recipe_.fill(page_, memory_.page(page_));
    }
    Verdict verdict() const { return judge(*image_, memory_, ledger_, page_, memory_.page(page_)); }

    GuestMemory memory_;
    PageLedger ledger_{256};
    ImageRecipe recipe_{1, 25};
    std::shared_ptr<Reference> image_ = Reference::from_recipe(recipe_);
    std::uint64_t page_ = 0;
};

TEST_F(Judge, image_then_write_then_drop) {
    EXPECT_EQ(verdict(), Verdict::equal);
    const auto generation = ledger_.next_write(page_);
    EXPECT_EQ(verdict(), Verdict::lost_write);
    apply_guest_write(page_, generation, memory_.page(page_));
    EXPECT_EQ(verdict(), Verdict::equal);
    ledger_.dropped(page_);
    EXPECT_EQ(verdict(), Verdict::wrong);
    ASSERT_TRUE(memory_.drop(page_, 1, false));
    EXPECT_EQ(verdict(), Verdict::equal);
    recipe_.fill(page_, memory_.page(page_));
    EXPECT_EQ(verdict(), Verdict::resurrected);
}

TEST_F(Judge, zero_where_data_belongs) {
    std::memset(memory_.page(page_), 0, small_page);
    EXPECT_EQ(verdict(), Verdict::unexpected_zero);
}

TEST(State, round_trip_and_refusals) {
    SnapshotState state;
    state.memory_mib = 64;
    state.recipe = ImageRecipe{3, 10};
    state.drives.push_back({"root", "rootfs.img", true});
    state.vsock_path = "v.sock";
    state.interfaces.push_back({"eth0", "tap0"});
    const auto back = parse_state(format_state(state));
    ASSERT_TRUE(back) << back.error();
    EXPECT_EQ(back->memory_bytes(), 64U << 20);
    EXPECT_EQ(back->recipe->seed, 3U);
    EXPECT_TRUE(back->drives.at(0).read_only);
    EXPECT_EQ(*back->vsock_path, "v.sock");
    EXPECT_FALSE(parse_state("{}"));
    EXPECT_FALSE(parse_state("not json"));
    state.page_size = 8192;
    EXPECT_FALSE(parse_state(format_state(state)));
}

TEST(Profile, every_unknown_key_is_an_error) {
    EXPECT_TRUE(parse_profile("{}"));
    EXPECT_TRUE(parse_profile(R"({"never_connect": true, "generation": "1.7"})"));
    for (const char* bad :
         {R"({"never_conect": true})", R"({"guest": {"speed": 1}})", R"({"generation": "2.0"})",
          R"({"die_at": "dawn"})", R"({"descriptors": 0})", R"({"sigbus": "maybe"})", "[]", "x",
          R"({"guest": {"pattern": "spiral"}})", R"({"split_body": {"pieces": 2}})"}) {
        EXPECT_FALSE(parse_profile(bad)) << bad;
    }
}

TEST(Handshake, generations) {
    GuestMemory memory;
    ASSERT_TRUE(memory.map_anonymous(layout_of(1 << 20), small_page));
    auto fields = [&](const char* generation) {
        const auto profile = parse_profile(fmt::format(R"({{"generation": "{}"}})", generation));
        return nlohmann::json::parse(handshake_body(*profile, memory)).at(0);
    };
    EXPECT_EQ(fields("1.1").size(), 3U);
    EXPECT_EQ(fields("1.7").at("page_size_kib"), 4096); // bytes, despite the name
    EXPECT_FALSE(fields("1.7").contains("page_size"));
    EXPECT_EQ(fields("1.12").at("page_size"), 4096);
    EXPECT_EQ(fields("main").size(), 5U);
}
