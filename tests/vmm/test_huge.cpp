// SPDX-License-Identifier: MIT
// Guest RAM of 2 MiB pages.
#include "fakes/huge_pages.hpp"
#include "page_content.hpp"
#include "test_support.hpp"

using namespace thaw::standin;
using namespace thaw::standin::test;

namespace {

class Huge : public testing::Test {
protected:
    void SetUp() override {
        if (!pool_.reason().empty()) {
            GTEST_SKIP() << pool_.reason();
        }
        make_image(directory_, {"--page-size", "2097152"}, 32);
    }
    thaw::fakes::HugePages pool_{20};
    WorkDirectory directory_;
};

} // namespace

TEST_F(Huge, every_byte_is_right) {
    SmallPager pager(directory_.path("uffd.sock"), directory_.path("memory"), {});
    const json guest = {{"pattern", "random"}, {"vcpus", 2}, {"touches", 3000}, {"drop_every", 50}};
    const StandinProcess vmm(directory_, {{"guest", guest}});
    ASSERT_EQ(vmm.load(true).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
    EXPECT_EQ(vmm.report().at("guest").at("mismatches"), 0);
    EXPECT_GT(pager.removed(), 10U);
    EXPECT_EQ(vmm.call("GET", "/machine-config").body.at("huge_pages"), "2M");
    const json verify = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_TRUE(verify.at("all_equal")) << verify;
}

TEST_F(Huge, refilled_and_wrong_pages_show) {
    SmallPager pager(
        directory_.path("uffd.sock"), directory_.path("memory"),
        {.wrong_page = 3, .refill_removed = true}
    );
    const json trace = json::array({{"w", 0, 1}, {"d", 0, 1}, {"r", 100, 1}});
    const StandinProcess vmm(directory_, {{"guest", {{"trace", trace}}}});
    ASSERT_EQ(vmm.load(true).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
    const json verify = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_GT(verify.at("resurrected"), 200) << verify;
    EXPECT_GT(verify.at("corrupt"), 200) << verify;
}

TEST_F(Huge, cannot_be_restored_from_a_file_mapping) {
    const StandinProcess vmm(directory_, json::object());
    const Reply reply = vmm.load(false, "File", "memory");
    EXPECT_EQ(reply.status, 400);
    EXPECT_NE(reply.body.dump().find("hugetlbfs"), std::string::npos);
}
