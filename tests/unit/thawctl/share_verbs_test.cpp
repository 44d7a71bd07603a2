// SPDX-License-Identifier: MIT

// share add, open, list, status, remove with the real thawctl and a fake supervisor.

#include "fake_shares.hpp"
#include "verb_fixture.hpp"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <filesystem>

namespace thaw::ctl {
namespace {

using testing::FakeShares;
using testing::has;

using ShareVerbs = testing::VerbTest<FakeShares>;

TEST_F(ShareVerbs, AddPassesItsOptions) {
    const auto result = run(
        {"share",
         "add",
         "web",
         "src",
         "/srv/src",
         "--read-only",
         "--file-handles",
         "mandatory",
         "--limit",
         "20000",
         "--on-low-limit",
         "degraded",
         "--memory-high",
         "64M",
         "--cache=never",
         "--sandbox=chroot",
         "--translate-uid",
         "map:1000:1001:1",
         "--translate-uid",
         "squash-host:0:0:1",
         "--threads",
         "4",
         "--on-loss=stop",
         "--offer-tag"}
    );
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(has(result.out, "/run/thaw/shares/web:src.sock")) << result.out;
    ASSERT_EQ(fake_->calls.size(), 1U);
    EXPECT_EQ(
        fake_->calls[0], "AddShare web src /srv/src Cache=\"never\" InodeFileHandles=\"mandatory\" "
                         "LimitNOFILE=20000 MemoryHigh=67108864 OfferTag=true OnLoss=\"stop\" "
                         "OnLowLimit=\"degraded\" "
                         "ReadOnly=true Sandbox=\"chroot\" ThreadPoolSize=4 "
                         "TranslateUid=[\"map:1000:1001:1\",\"squash-host:0:0:1\"]"
    );
}

TEST_F(ShareVerbs, OpenPrintsTheSocketAlone) {
    auto result = run({"share", "open", "/srv/src", "data"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, "/run/thaw/shares/extern:data.sock\n");
    result = run({"share", "open", "/srv/src", "data", "--name=vm7", "--json=short"});
    EXPECT_EQ(nlohmann::json::parse(result.out)["socket"], "/run/thaw/shares/vm7:data.sock");
    EXPECT_EQ(fake_->calls[1], "AddShare vm7 data /srv/src");
}

TEST_F(ShareVerbs, ARelativeSourceIsTheCallers) {
    EXPECT_EQ(run({"share", "open", "some/./where/", "data"}).exit_code, 0);
    EXPECT_EQ(
        fake_->calls.at(0),
        "AddShare extern data " + std::filesystem::current_path().string() + "/some/where"
    );
}

TEST_F(ShareVerbs, RefusalsHaveExitCodes) {
    const std::pair<const char*, int> refusals[] = {
        {"SourceMissing", 3}, {"SourceNotAllowed", 4},   {"ChurningCache", 4},
        {"LimitTooLow", 1},   {"HandlesUnavailable", 1}, {"DaemonUnavailable", 5},
    };
    for (const auto& [tag, code] : refusals) {
        const auto result = run({"share", "add", "web", tag, "/srv"});
        EXPECT_EQ(result.exit_code, code) << tag;
        EXPECT_TRUE(has(result.err, std::string(tag) + ": refused on purpose")) << result.err;
        EXPECT_EQ(result.out, "");
    }
}

TEST_F(ShareVerbs, ListAndStatus) {
    EXPECT_EQ(run({"share", "list", "--json=short"}).out, "[]\n");
    fake_->add("web", "src", "/srv/src");
    fake_->add("web", "log", "/srv/log");
    auto result = run({"share", "list"});
    EXPECT_TRUE(has(result.out, "elevated")) << result.out;
    EXPECT_TRUE(has(result.out, "610/1000")) << result.out;
    result = run({"share", "list", "--json=short"});
    EXPECT_EQ(nlohmann::json::parse(result.out).size(), 2U) << result.out;
    result = run({"share", "status", "web", "src"});
    EXPECT_TRUE(has(result.out, "Descriptors: 610/1000 used, elevated")) << result.out;
    EXPECT_TRUE(has(result.out, "What helps: drop-caches, raise-limit")) << result.out;
    EXPECT_TRUE(has(result.out, "Memory: unknown")) << result.out;
    EXPECT_FALSE(has(result.out, "/srv/log"));
    result = run({"share", "status", "web"});
    EXPECT_TRUE(has(result.out, "/srv/src") && has(result.out, "/srv/log")) << result.out;
    EXPECT_EQ(run({"share", "status", "other"}).exit_code, 3);
    EXPECT_EQ(run({"share", "status", "web", "other"}).exit_code, 3);
}

TEST_F(ShareVerbs, RemoveRaiseAndDrop) {
    fake_->add("web", "src", "/srv/src");
    EXPECT_EQ(run({"share", "raise-limit", "web", "src", "9000"}).exit_code, 0);
    EXPECT_EQ(run({"share", "drop-caches", "web", "src"}).exit_code, 0);
    EXPECT_EQ(run({"share", "remove", "web", "src"}).exit_code, 0);
    EXPECT_EQ(run({"share", "remove", "web", "src", "--force"}).exit_code, 3);
    EXPECT_EQ(
        fake_->calls, (std::vector<std::string>{
                          "RaiseLimit web src 9000", "DropCaches web src", "RemoveShare web src 0",
                          "RemoveShare web src 1"
                      })
    );
}

TEST_F(ShareVerbs, UsageErrors) {
    const std::vector<std::vector<std::string>> wrong = {
        {"share"},
        {"share", "add", "web", "src"},
        {"share", "add", "web", "src", "/srv", "--cache=perhaps"},
        {"share", "add", "web", "src", "/srv", "--limit=many"},
        {"share", "open", "/srv"},
        {"share", "remove", "web"},
        {"share", "raise-limit", "web", "src"},
        {"cache", "warm", "web", "/srv"},
    };
    for (const auto& words : wrong) {
        const auto result = run(words);
        EXPECT_EQ(result.exit_code, 2) << words.back();
        EXPECT_NE(result.err, "");
    }
    EXPECT_TRUE(fake_->calls.empty());
}

} // namespace
} // namespace thaw::ctl
