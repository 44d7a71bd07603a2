// SPDX-License-Identifier: MIT
// The stand-in against a pager that does everything right, and against pagers that do one thing
// wrong: the checker must say so.
#include "page_content.hpp"
#include "test_support.hpp"

using namespace thaw::standin;
using namespace thaw::standin::test;

namespace {

const json busy_guest = {{"pattern", "random"}, {"vcpus", 2},      {"touches", 6000},
                         {"drop_every", 20},    {"drop_pages", 8}, {"write_percent", 30}};

/// Loads with the pager, lets the guest do its touches and waits for its end.
void run_guest(const StandinProcess& vmm) {
    ASSERT_EQ(vmm.load(true).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
}

std::uint64_t first_data_page() {
    std::uint64_t page = 0;
    while (ImageRecipe{1, 25}.is_zero(page) || ImageRecipe{1, 25}.is_zero(page + 1)) {
        ++page;
    }
    return page;
}

class Pager : public testing::TestWithParam<const char*> {
protected:
    Pager() { make_image(directory_); }
    WorkDirectory directory_;
};

} // namespace

TEST_P(Pager, every_byte_is_right) {
    SmallPager pager(directory_.path("uffd.sock"), directory_.path("memory"), {});
    const StandinProcess vmm(directory_, {{"generation", GetParam()}, {"guest", busy_guest}});
    run_guest(vmm);
    const json report = vmm.report();
    EXPECT_EQ(report.at("backend"), "Uffd");
    EXPECT_EQ(report.at("guest").at("touches"), 12'000);
    EXPECT_EQ(report.at("guest").at("mismatches"), 0) << report.at("guest").at("errors");
    EXPECT_GT(report.at("guest").at("dropped_pages"), 100);
    EXPECT_GT(report.at("guest").at("first_touch_latency_ns").at("p50"), 0);
    const Reply verify = vmm.call("PUT", "/standin/verify", json::object());
    ASSERT_EQ(verify.status, 200) << verify.body;
    EXPECT_TRUE(verify.body.at("all_equal")) << verify.body;
    EXPECT_EQ(verify.body.at("pages"), 4096);
    EXPECT_GT(pager.served(), 3000U);
    // From 1.11 on the balloon gives memory back in a way the pager hears of.
    EXPECT_EQ(pager.removed() > 0, std::string(GetParam()) != "1.7");
}

INSTANTIATE_TEST_SUITE_P(
    Generations, Pager, testing::Values("1.7", "1.11", "1.12", "main"),
    [](const auto& chosen) {
        std::string name = chosen.param;
        std::replace(name.begin(), name.end(), '.', '_');
        return name;
    }
);

TEST(TwoRegions, memory_above_the_hole_is_the_second_region) {
    WorkDirectory directory;
    make_image(directory, {"--zero-percent", "100", "--sparse"}, 3100);
    SmallPager pager(directory.path("uffd.sock"), directory.path("memory"), {});
    const std::uint64_t boundary = (3ULL << 30) / small_page;
    const json trace = {
        {"w", boundary - 2, 4},
        {"d", boundary - 1, 1},
        {"d", boundary, 1},
        {"r", boundary - 2, 4},
        {"w", 0, 1},
        {"w", boundary + 7000, 1}
    };
    const StandinProcess vmm(directory, {{"guest", {{"trace", trace}}}});
    run_guest(vmm);
    const json guest = vmm.report().at("guest");
    EXPECT_EQ(guest.at("mismatches"), 0) << guest.at("errors");
    EXPECT_EQ(guest.at("writes"), 6);
    EXPECT_EQ(pager.removed(), 2U);
}

class BrokenPager : public Pager {};

TEST_F(BrokenPager, a_page_from_the_wrong_place_shows) {
    const std::uint64_t page = first_data_page();
    SmallPager pager(
        directory_.path("uffd.sock"), directory_.path("memory"),
        {.wrong_page = static_cast<std::int64_t>(page)}
    );
    const StandinProcess vmm(directory_, json::object());
    ASSERT_EQ(vmm.load().status, 204);
    const json result = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_FALSE(result.at("all_equal"));
    EXPECT_EQ(result.at("wrong"), 1);
    EXPECT_EQ(result.at("first_wrong").at(0).at("offset"), page * small_page);
    EXPECT_EQ(result.at("first_wrong").at(0).at("kind"), "wrong");
}

TEST_F(BrokenPager, refilling_removed_pages_shows_as_resurrected) {
    SmallPager pager(
        directory_.path("uffd.sock"), directory_.path("memory"), {.refill_removed = true}
    );
    const StandinProcess vmm(directory_, {{"guest", busy_guest}});
    run_guest(vmm);
    EXPECT_GT(vmm.report().at("guest").at("mismatches"), 0);
    const json result = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_FALSE(result.at("all_equal"));
    EXPECT_GT(result.at("resurrected"), 0);
}

TEST_F(BrokenPager, zeros_for_data_show) {
    // The image the checker compares with is another one than the pager serves from.
    WorkDirectory other;
    make_image(other, {"--zero-percent", "100"});
    SmallPager pager(directory_.path("uffd.sock"), other.path("memory"), {});
    const StandinProcess vmm(directory_, json::object());
    ASSERT_EQ(vmm.load().status, 204);
    const json result = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_GT(result.at("unexpected_zero"), 1000);
    EXPECT_EQ(result.at("unexpected_zero"), result.at("wrong"));
}

TEST_F(BrokenPager, a_page_never_served_blocks_and_is_named) {
    const std::uint64_t page = 1000;
    SmallPager pager(
        directory_.path("uffd.sock"), directory_.path("memory"),
        {.silent_page = static_cast<std::int64_t>(page)}
    );
    const StandinProcess vmm(directory_, {{"guest", {{"trace", {{"r", 0, 10}, {"r", page}}}}}});
    ASSERT_EQ(vmm.load(true).status, 204);
    json report;
    // On a slow machine any page may be waited for, for a moment.
    ASSERT_TRUE(eventually([&] {
        report = vmm.report().at("guest");
        const json& blocked = report.at("blocked");
        return !blocked.empty() && blocked.at(0).at("offset") == page * small_page;
    }));
    EXPECT_FALSE(report.at("finished"));
    EXPECT_EQ(report.at("touches"), 10);
}

TEST_F(BrokenPager, verify_gives_up_when_asked_to) {
    SmallPager pager(directory_.path("uffd.sock"), directory_.path("memory"), {.silent_page = 50});
    const StandinProcess vmm(directory_, {{"device_touch_pages", 0}});
    ASSERT_EQ(vmm.load().status, 204);
    const Reply reply = vmm.call("PUT", "/standin/verify", {{"timeout_ms", 300}});
    EXPECT_EQ(reply.status, 400);
    EXPECT_NE(reply.body.at("fault_message").get<std::string>().find("204800"), std::string::npos);
}

TEST_F(BrokenPager, trace_is_replayed_in_order) {
    SmallPager pager(directory_.path("uffd.sock"), directory_.path("memory"), {});
    const json trace = {{"w", 5}, {"d", 5}, {"r", 5}, {"w", 6, 4}, {"d", 0, 4096}, {"w", 9}};
    const StandinProcess vmm(directory_, {{"guest", {{"trace", trace}}}});
    run_guest(vmm);
    const json guest = vmm.report().at("guest");
    EXPECT_EQ(guest.at("writes"), 6);
    EXPECT_EQ(guest.at("reads"), 1);
    EXPECT_EQ(guest.at("drops"), 2);
    EXPECT_TRUE(vmm.call("PUT", "/standin/verify", json::object()).body.at("all_equal"));
    EXPECT_EQ(pager.removed(), 4097U);
}
