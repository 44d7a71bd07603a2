// SPDX-License-Identifier: MIT
// Each way of behaving badly, seen from the other end of the socket.
#include "test_support.hpp"

#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>

using namespace thaw::standin;
using namespace thaw::standin::test;

namespace {

/// Nobody serves the pages here, so most of these loads never end by themselves.
class Misbehaviour : public testing::Test {
protected:
    Misbehaviour() : listener_(listen_unix(directory_.path("uffd.sock"))) {
        make_image(directory_, {}, 4);
    }

    std::optional<Handshake> handshake(const json& profile, int timeout_ms = 2000) {
        vmm_.emplace(directory_, profile);
        client_ = std::thread([this] { vmm_->load(false, "Uffd", "uffd.sock"); });
        auto got = receive_handshake(listener_.get(), timeout_ms);
        ::kill(vmm_->pid(), SIGKILL); // the load would wait for its pages
        client_.join();
        return got;
    }

    /// The load fails or the process ends; the wait status.
    int death(const json& profile, bool resume = false) {
        StandinProcess vmm(directory_, profile, profile.value("die_at", "") != "exec");
        vmm.load(resume, "Uffd", "uffd.sock", 2);
        return vmm.wait().value_or(-1);
    }

    WorkDirectory directory_;
    Fd listener_;
    std::optional<StandinProcess> vmm_;
    std::thread client_;
};

bool is_userfault(int fd) {
    char target[64] = {};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    return ::readlink(link.c_str(), target, sizeof(target) - 1) > 0 &&
           std::string(target) == "anon_inode:[userfaultfd]";
}

} // namespace

TEST_F(Misbehaviour, none) {
    const auto got = handshake(json::object());
    ASSERT_TRUE(got);
    ASSERT_EQ(got->descriptors.size(), 1U);
    EXPECT_TRUE(is_userfault(got->descriptors[0].get()));
    EXPECT_FALSE(got->eof);
    EXPECT_EQ(got->body().at(0).at("size"), 4 << 20);
}

TEST_F(Misbehaviour, before_1_12_the_socket_is_closed_after_sending) {
    const auto got = handshake({{"generation", "1.11"}});
    ASSERT_TRUE(got);
    EXPECT_TRUE(got->eof);
    EXPECT_EQ(got->descriptors.size(), 1U);
}

TEST_F(Misbehaviour, early_eof) {
    EXPECT_TRUE(handshake({{"early_eof", true}})->eof);
}

TEST_F(Misbehaviour, never_connect) {
    EXPECT_FALSE(handshake({{"never_connect", true}}, 300));
}

TEST_F(Misbehaviour, connect_but_send_nothing) {
    const auto got = handshake({{"connect_but_send_nothing", true}}, 300);
    ASSERT_TRUE(got);
    EXPECT_TRUE(got->text.empty());
}

TEST_F(Misbehaviour, malformed_and_truncated_json) {
    EXPECT_TRUE(handshake({{"malformed_json", true}}, 300)->body().is_discarded());
}

TEST_F(Misbehaviour, truncated_json) {
    const auto got = handshake({{"truncated_json", true}}, 300);
    EXPECT_TRUE(got->text.starts_with("[{"));
    EXPECT_TRUE(got->body().is_discarded());
}

TEST_F(Misbehaviour, huge_json) {
    EXPECT_TRUE(handshake({{"huge_json", true}})->overflow);
}

TEST_F(Misbehaviour, regions) {
    const auto overlap = handshake({{"overlapping_regions", true}})->body();
    ASSERT_EQ(overlap.size(), 2U);
    const auto first_end = overlap[0].at("base_host_virt_addr").get<std::uint64_t>() +
                           overlap[0].at("size").get<std::uint64_t>();
    EXPECT_LT(overlap[1].at("base_host_virt_addr").get<std::uint64_t>(), first_end);
}

TEST_F(Misbehaviour, unaligned_regions) {
    const auto body = handshake({{"unaligned_regions", true}})->body();
    EXPECT_EQ(body[0].at("base_host_virt_addr").get<std::uint64_t>() % 4096, 512U);
}

TEST_F(Misbehaviour, wrong_offsets_and_sum_mismatch) {
    const auto body = handshake({{"wrong_offsets", true}, {"sum_mismatch", true}})->body();
    EXPECT_EQ(body[0].at("offset"), 4096);
    EXPECT_EQ(body[0].at("size"), (4 << 20) - 4096);
}

TEST_F(Misbehaviour, no_fd) {
    EXPECT_TRUE(handshake({{"no_fd", true}})->descriptors.empty());
}

TEST_F(Misbehaviour, fd_not_uffd) {
    const auto got = handshake({{"fd_not_uffd", true}});
    ASSERT_EQ(got->descriptors.size(), 1U);
    EXPECT_FALSE(is_userfault(got->descriptors[0].get()));
}

TEST_F(Misbehaviour, more_descriptors) {
    const auto got = handshake({{"descriptors", 20}});
    ASSERT_EQ(got->descriptors.size(), 20U);
    EXPECT_TRUE(is_userfault(got->descriptors[0].get()));
}

TEST_F(Misbehaviour, split_body) {
    const auto got = handshake({{"split_body", {{"pieces", 5}, {"delay_ms", 20}}}});
    EXPECT_TRUE(got->body().is_array());
    EXPECT_EQ(got->descriptors.size(), 1U);
}

TEST_F(Misbehaviour, hang_and_slow_load) {
    StandinProcess hung(
        directory_, {{"hang_in_load", true}, {"device_touch_pages", 0}}, true, "hung.sock"
    );
    EXPECT_EQ(hung.load(false, "Uffd", "uffd.sock", 1).status, 0);
    EXPECT_FALSE(hung.wait(0));
    StandinProcess slow(
        directory_, {{"slow_load_ms", 300}, {"device_touch_pages", 0}}, true, "slow.sock"
    );
    const auto started = now_ns();
    EXPECT_EQ(slow.load().status, 204);
    EXPECT_GE(now_ns() - started, 300'000'000U);
}

TEST_F(Misbehaviour, load_and_resume_errors) {
    StandinProcess load(directory_, {{"load_error", "no such luck"}}, true, "a.sock");
    const Reply reply = load.load();
    EXPECT_EQ(reply.status, 400);
    EXPECT_NE(reply.body.dump().find("no such luck"), std::string::npos);
    EXPECT_TRUE(load.wait());

    const StandinProcess resume(
        directory_, {{"resume_error", "no"}, {"device_touch_pages", 0}}, true, "b.sock"
    );
    ASSERT_EQ(resume.load().status, 204);
    EXPECT_EQ(resume.call("PATCH", "/vm", {{"state", "Resumed"}}).status, 400);
    EXPECT_EQ(resume.call("GET", "/").body.at("state"), "Paused");

    const StandinProcess api(
        directory_, {{"api_error", {{"PUT /snapshot/load", "not today"}}}}, true, "c.sock"
    );
    EXPECT_EQ(api.load().body.at("fault_message"), "not today");
    EXPECT_EQ(api.call("GET", "/").status, 200);
}

TEST_F(Misbehaviour, dies_at_the_chosen_moment) {
    for (const char* moment : {"exec", "before-connect", "after-connect", "after-send"}) {
        const int status = death({{"die_at", moment}, {"die_exit_code", 42}});
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42) << moment;
        ::unlink(directory_.path("api.sock").c_str());
    }
    for (const char* moment : {"after-load", "on-resume", "after-ms:50"}) {
        const int status =
            death({{"die_at", moment}, {"die_signal", SIGSEGV}, {"device_touch_pages", 0}}, true);
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) << moment;
        ::unlink(directory_.path("api.sock").c_str());
    }
}

TEST_F(Misbehaviour, no_api_and_late_api) {
    StandinProcess none(directory_, {{"no_api", true}}, false, "none.sock");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_FALSE(connect_unix(directory_.path("none.sock"), 1));
    EXPECT_FALSE(none.wait(0));
    const auto started = now_ns();
    const StandinProcess late(directory_, {{"api_delay_ms", 200}}, true, "late.sock");
    EXPECT_GE(now_ns() - started, 190'000'000U);
}

TEST_F(Misbehaviour, sigterm) {
    StandinProcess normal(directory_, json::object(), true, "a.sock");
    ::kill(normal.pid(), SIGTERM);
    EXPECT_EQ(WTERMSIG(normal.wait().value_or(0)), SIGTERM);

    StandinProcess deaf(directory_, {{"ignore_sigterm", true}}, true, "b.sock");
    ::kill(deaf.pid(), SIGTERM);
    EXPECT_FALSE(deaf.wait(200));

    StandinProcess slow(directory_, {{"exit_delay_ms", 200}}, true, "c.sock");
    const auto started = now_ns();
    ::kill(slow.pid(), SIGTERM);
    EXPECT_EQ(slow.wait().value_or(-1), 0);
    EXPECT_GE(now_ns() - started, 200'000'000U);
}

TEST_F(Misbehaviour, unknown_profile_key_ends_the_program) {
    StandinProcess vmm(directory_, {{"never_conect", true}}, false);
    EXPECT_EQ(WEXITSTATUS(vmm.wait().value_or(0)), 2);
}

TEST_F(Misbehaviour, sigbus_kills_or_is_counted) {
    // A truncated file behind the mapping answers with SIGBUS, as a poisoned page does.
    StandinProcess counts(directory_, {{"sigbus", "count"}}, true, "a.sock");
    StandinProcess dies(directory_, json::object(), true, "b.sock");
    ASSERT_EQ(counts.load(false, "File", "memory").status, 204);
    ASSERT_EQ(dies.load(false, "File", "memory").status, 204);
    std::filesystem::resize_file(directory_.path("memory"), (4U << 20) - 8 * 4096);
    const json result = counts.call("PUT", "/standin/verify", {{"recipe", true}}).body;
    EXPECT_EQ(result.at("poisoned"), 8) << result;
    EXPECT_EQ(result.at("equal"), 1016);
    EXPECT_EQ(dies.call("PUT", "/standin/verify", {{"recipe", true}}).status, 0);
    EXPECT_EQ(WTERMSIG(dies.wait().value_or(0)), SIGBUS);
}
