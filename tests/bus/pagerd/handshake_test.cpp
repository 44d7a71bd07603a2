// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "fixture.hpp"

namespace thaw::pagerd {
namespace {

// ---- every generation --------------------------------------------------------------------------

struct Generation {
    const char* name;
    const char* page_size_member;
    bool close_after_send;
    std::size_t parts;
    std::size_t regions;
    std::size_t extra_descriptors;
};

class Generations : public PagerdTest, public testing::WithParamInterface<Generation> {};

TEST_P(Generations, IsServedByteForByte) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    auto how = behaviour("a");
    how.page_size_member = GetParam().page_size_member;
    how.close_after_send = GetParam().close_after_send;
    how.parts = GetParam().parts;
    how.regions = GetParam().regions;
    how.extra_descriptors = GetParam().extra_descriptors;
    auto vmm = make_vmm("a", how);
    vmm.connect();
    ASSERT_TRUE(answer(vmm));
    ASSERT_TRUE(wait_state("a", "serving"));
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    EXPECT_GT(number("a", "Faults", 't'), 0U);
    EXPECT_EQ(number("a", "PagesInstalled", 't'), kPages);
    EXPECT_EQ(number("a", "VmmPID"), static_cast<std::uint64_t>(vmm.pid()));
    // The userfaultfd, the VMM, the worker, the session memory and the image; nothing else.
    EXPECT_TRUE(until([&] { return keeper_->stored().size() == 5; }));
    for (const auto* role : {".uffd", ".vmm", ".worker", ".session", ".memory"})
        EXPECT_EQ(keeper_->count(role), 1U) << role;
}

INSTANTIATE_TEST_SUITE_P(
    All, Generations,
    testing::Values(
        Generation{"v1_1", "", true, 1, 1, 0}, Generation{"v1_7", "page_size_kib", true, 1, 2, 0},
        Generation{"v1_12", "page_size", false, 1, 2, 0},
        Generation{"split", "page_size", false, 5, 2, 0},
        Generation{"split_and_closed", "", true, 3, 1, 0},
        Generation{"main_more_descriptors", "page_size", false, 1, 4, 2}
    ),
    [](const auto& test) { return std::string(test.param.name); }
);

// ---- every malformation ------------------------------------------------------------------------

struct Malformed {
    const char* name;
    std::string_view error;
    void (*change)(VmmBehaviour&);
};

class BadHandshakes : public PagerdTest, public testing::WithParamInterface<Malformed> {};

TEST_P(BadHandshakes, FailsThisSessionAlone) {
    write_config("HandshakeTimeoutSec=300ms");
    start_daemon();
    auto good = serve("good");
    EXPECT_TRUE(check_pages(good, 0, 8));
    const auto fds_before = daemon_fds();
    const auto stored_before = keeper_->stored().size();

    ASSERT_EQ(create("bad"), "");
    auto how = behaviour("bad");
    GetParam().change(how);
    auto vmm = make_vmm("bad", how);
    vmm.connect();
    answer(vmm);
    ASSERT_TRUE(wait_state("bad", "failed"));
    EXPECT_EQ(text("bad", "ErrorName"), GetParam().error) << text("bad", "ErrorMessage");
    EXPECT_NE(text("bad", "ErrorMessage"), "");
    EXPECT_TRUE(flag("bad", "StopPending"));
    // Every descriptor it brought is closed, and the session's own; its memory has the counters.
    EXPECT_TRUE(until([&] { return daemon_fds() == fds_before + 1; })) << daemon_fds();
    EXPECT_TRUE(until([&] { return keeper_->stored().size() == stored_before; }));
    EXPECT_NE(::access(socket_of("bad").c_str(), F_OK), 0);

    EXPECT_TRUE(check_pages(good, 0, kPages));
    EXPECT_EQ(text("good", "State"), "serving");
    EXPECT_EQ(close("bad"), "");
    EXPECT_TRUE(until([&] { return daemon_fds() == fds_before; })) << daemon_fds();
    EXPECT_EQ(sessions(), 1U);
    EXPECT_EQ(create("bad"), "");
}

namespace error = pager1::error;
INSTANTIATE_TEST_SUITE_P(
    All, BadHandshakes,
    testing::Values(
        Malformed{"garbage", error::kHandshakeInvalid, [](auto& how) { how.text = "hello"; }},
        Malformed{"object", error::kHandshakeInvalid, [](auto& how) { how.text = "{}"; }},
        Malformed{"trailing", error::kHandshakeInvalid, [](auto& how) { how.text = "[] []"; }},
        Malformed{"no_members", error::kHandshakeInvalid, [](auto& how) { how.text = "[{}]"; }},
        Malformed{
            "early_end", error::kHandshakeInvalid,
            [](auto& how) {
                how.text = R"([{"base_host_virt_addr":)";
                how.close_after_send = true;
            }
        },
        Malformed{
            "never_ends", error::kHandshakeTimeout, [](auto& how) { how.text = R"([{"base)"; }
        },
        Malformed{"silent", error::kHandshakeTimeout, [](auto& how) { how.send_nothing = true; }},
        Malformed{
            "huge", error::kHandshakeInvalid,
            [](auto& how) { how.text = "[\"" + std::string(2 << 20, 'x') + "\"]"; }
        },
        Malformed{"empty_list", error::kRegionsInvalid, [](auto& how) { how.text = "[]"; }},
        Malformed{
            "overlap", error::kRegionsInvalid,
            [](auto& how) {
                how.text = R"([{"base_host_virt_addr":BASE,"size":2097152,"offset":0},
                               {"base_host_virt_addr":BASE,"size":2097152,"offset":2097152}])";
            }
        },
        Malformed{
            "half", error::kImageMismatch,
            [](auto& how) {
                how.text = R"([{"base_host_virt_addr":BASE,"size":2097152,"offset":0}])";
            }
        },
        Malformed{
            "beyond_the_image", error::kRegionsInvalid,
            [](auto& how) {
                how.text = R"([{"base_host_virt_addr":BASE,"size":4194304,"offset":4096}])";
            }
        },
        Malformed{
            "no_descriptor", error::kDescriptorsInvalid,
            [](auto& how) { how.send_descriptor = false; }
        },
        Malformed{
            "too_many_descriptors", error::kDescriptorsInvalid,
            [](auto& how) { how.extra_descriptors = 3; }
        },
        Malformed{
            "truncated_descriptors", error::kDescriptorsInvalid,
            [](auto& how) { how.extra_descriptors = 50; }
        },
        Malformed{
            "no_userfaultfd", error::kDescriptorsInvalid,
            [](auto& how) { how.send_wrong_descriptor = true; }
        },
        Malformed{
            "uninitialised", error::kDescriptorsInvalid, [](auto& how) { how.initialise = false; }
        }
    ),
    [](const auto& test) { return std::string(test.param.name); }
);

// ---- who connects ------------------------------------------------------------------------------

using Peers = PagerdTest;

TEST_F(Peers, StrangerIsRefusedAndHarmsNothing) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    const auto fds_before = daemon_fds();
    auto other_unit = make_vmm("b", behaviour("a"));
    auto no_unit = VmmProcess(behaviour("a"));
    for (auto* stranger : {&other_unit, &no_unit, &other_unit}) {
        stranger->connect();
        ASSERT_TRUE(answer(*stranger));
    }
    EXPECT_TRUE(until([&] { return systemd_->count_calls("GetUnitByPID") >= 3; }));
    EXPECT_TRUE(until([&] { return daemon_fds() == fds_before; })) << daemon_fds();
    EXPECT_EQ(text("a", "State"), "listening");
    EXPECT_TRUE(until([&] { return keeper_->count(".conn") == 0; }));

    auto vmm = make_vmm("a");
    vmm.connect();
    ASSERT_TRUE(answer(vmm));
    ASSERT_TRUE(wait_state("a", "serving"));
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    // It took its one connection.
    other_unit.connect();
    EXPECT_FALSE(answer(other_unit));
}

TEST_F(Peers, PeerThatDiedIsAStranger) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    {
        auto vmm = make_vmm("a");
        kill_daemon();
        vmm.connect();
        ASSERT_TRUE(answer(vmm));
    }
    start_daemon();
    fakes::run_for(*loop_, 100 * kUsecPerMsec);
    EXPECT_EQ(text("a", "State"), "listening");
}

} // namespace
} // namespace thaw::pagerd
