// SPDX-License-Identifier: MIT
// The small real guest, over a pager.
#include "test_support.hpp"

using namespace thaw::standin;
using namespace thaw::standin::test;

TEST(Kvm, real_guest_reads_writes_and_drops_lazy_memory) {
    WorkDirectory directory;
    make_image(directory);
    SmallPager pager(directory.path("uffd.sock"), directory.path("memory"), {});
    const json guest = {
        {"kvm", "require"},
        {"touches", 6000},
        {"write_percent", 50},
        {"drop_every", 500},
        {"kvm_batch_pages", 16}
    };
    const StandinProcess vmm(directory, {{"guest", guest}});
    ASSERT_EQ(vmm.load(true).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
    const json report = vmm.report().at("guest");
    const std::string state = report.at("kvm").at("state");
    if (state.starts_with("unusable")) {
        EXPECT_GT(report.at("error_count"), 0) << "`require` must not be silent";
        GTEST_SKIP() << state;
    }
    EXPECT_EQ(state, "ended") << report;
    EXPECT_GE(report.at("kvm").at("pages"), 6000);
    EXPECT_EQ(report.at("mismatches"), 0) << report.at("errors");
    EXPECT_GT(report.at("drops"), 0);
    const json verify = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_TRUE(verify.at("all_equal")) << verify;
}

TEST(Kvm, the_guest_itself_sees_a_wrong_page) {
    WorkDirectory directory;
    make_image(directory, {"--zero-percent", "0"});
    SmallPager pager(directory.path("uffd.sock"), directory.path("memory"), {.wrong_page = 40});
    const StandinProcess vmm(
        directory, {{"guest", {{"kvm", "require"}, {"touches", 4096}}}, {"device_touch_pages", 0}}
    );
    ASSERT_EQ(vmm.load(true).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
    const json report = vmm.report().at("guest");
    if (report.at("kvm").at("state").get<std::string>().starts_with("unusable")) {
        GTEST_SKIP() << report.at("kvm").at("state");
    }
    EXPECT_EQ(report.at("mismatches"), 1) << report.at("errors");
    EXPECT_EQ(report.at("errors").at(0).at("kind"), "kvm_checksum");
}
