// SPDX-License-Identifier: MIT

// cache warm with the real thawctl and transports that really run commands: on this machine, in
// place of a guest.

#include "core/file.hpp"
#include "guest_script.hpp"
#include "program.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace thaw::ctl {
namespace {

using testing::has;
using testing::ProgramOptions;
using testing::ProgramResult;
namespace fs = std::filesystem;

class Cache : public ::testing::Test {
protected:
    void SetUp() override {
        source_ = root_.path() + "/source";
        guest_ = root_.path() + "/guest";
        destination_ = guest_ + "/home/cache";
        ASSERT_TRUE(make_directories(source_ + "/deep/er"));
        ASSERT_TRUE(make_directories(guest_));
        big_.assign(4 << 20, 'b');
        write("deep/er/small", "small\n", 0640);
        write("deep/large", big_);
        write("tool", "#!/bin/sh\n", 0755);
        ASSERT_EQ(link((source_ + "/tool").c_str(), (source_ + "/again").c_str()), 0);
        ASSERT_EQ(symlink("deep/er/small", (source_ + "/link").c_str()), 0);
    }
    void write(const std::string& name, std::string_view content, mode_t mode = 0644) const {
        ASSERT_TRUE(write_file_atomic(source_ + "/" + name, content, mode));
    }
    // A transport made of a script whose "$1" is what the guest shall run.
    std::string transport(const std::string& name, const std::string& script) const {
        const auto path = root_.path() + "/" + name;
        EXPECT_TRUE(write_file_atomic(path, "#!/bin/sh\n" + script + "\n", 0755));
        return path;
    }
    // One that passes so many bytes of the stream on and then does something with the rest.
    std::string cut_at(std::uint64_t bytes, const std::string& rest) const {
        const std::string script =
            "IFS= read -r a; IFS= read -r b; IFS= read -r c\n"
            "{{ printf '%s\\n' \"$a\" \"$b\" \"$c\"; head -c {}; {}; }} | sh -c \"$1\"";
        return transport("cut", fmt::format(fmt::runtime(script), bytes, rest));
    }
    ProgramResult warm(
        const std::string& with = "sh -c", std::vector<std::string> more = {},
        ProgramOptions options = {}
    ) const {
        options.silent_bus = true; // no daemon is needed
        std::vector<std::string> words{"cache",      "warm",        "web", source_,
                                       destination_, "--transport", with};
        words.insert(words.end(), more.begin(), more.end());
        return testing::run_thawctl(nullptr, words, options);
    }
    std::string content(const std::string& name) const {
        return read_file(destination_ + "/" + name, 8 << 20).value_or("(none)");
    }
    void expect_complete() const {
        EXPECT_EQ(content("deep/er/small"), "small\n");
        EXPECT_TRUE(content("deep/large") == big_);
        EXPECT_EQ(fs::read_symlink(destination_ + "/link"), "deep/er/small");
        EXPECT_TRUE(fs::equivalent(destination_ + "/tool", destination_ + "/again"));
        EXPECT_EQ(fs::status(destination_ + "/tool").permissions(), fs::perms(0755));
        EXPECT_EQ(fs::status(destination_ + "/deep/er/small").permissions(), fs::perms(0640));
        EXPECT_TRUE(fs::exists(destination_ + "/" + guest::kSentinel));
        EXPECT_FALSE(fs::exists(destination_ + "/" + guest::kEndMember));
    }
    // Neither a copy nor a part of one.
    void expect_nothing() const {
        EXPECT_FALSE(fs::exists(destination_));
        if (fs::exists(fs::path(destination_).parent_path())) expect_no_leftovers();
    }
    void expect_no_leftovers() const {
        for (const auto& entry : fs::directory_iterator(fs::path(destination_).parent_path()))
            EXPECT_FALSE(has(entry.path().filename(), ".thaw-")) << entry.path();
    }

    test::TemporaryDirectory root_;
    std::string source_;
    std::string guest_;
    std::string destination_;
    std::string big_;
};

TEST_F(Cache, IsWarmedOnceAndRefreshedOnDemand) {
    auto result = warm();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(has(result.out, "Copied 7 files, 4.0M")) << result.out;
    expect_complete();
    expect_no_leftovers();

    write("new", "new");
    ASSERT_TRUE(remove_if_exists(source_ + "/deep/er/small"));
    result = warm("sh -c", {"--json=short"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(nlohmann::json::parse(result.out)["result"], "present");
    EXPECT_EQ(content("new"), "(none)");

    result = warm("sh -c", {"--refresh", "--json=short"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto answer = nlohmann::json::parse(result.out);
    EXPECT_EQ(answer["result"], "refreshed");
    EXPECT_EQ(answer["bytes"], big_.size() + 3 + 10);
    EXPECT_EQ(content("new"), "new");
    EXPECT_EQ(content("deep/er/small"), "(none)");
    expect_no_leftovers();
}

TEST_F(Cache, NamesAreNeverRun) {
    const std::string evil = "a'b\"c $(touch pwned) `touch pwned` ;touch pwned; %s \\n *";
    write(evil, "kept");
    write("-rf", "kept");
    destination_ = guest_ + "/" + evil;
    const auto here = transport("here", "cd " + guest_ + " && exec sh -c \"$1\"");
    const auto result = warm(here);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(content(evil), "kept");
    EXPECT_EQ(content("-rf"), "kept");
    EXPECT_FALSE(fs::exists(guest_ + "/pwned"));
    // A login shell passes the command on as it is.
    EXPECT_FALSE(has(std::string(guest::kCommand), "\\"));
    EXPECT_FALSE(has(std::string(guest::kCommand).substr(7, guest::kCommand.size() - 8), "'"));
    EXPECT_EQ(warm(here, {"--refresh"}).exit_code, 0);
    EXPECT_FALSE(fs::exists(guest_ + "/pwned"));
}

TEST_F(Cache, TheVmIsAWordOfTheTransport) {
    const auto log = root_.path() + "/log";
    const auto record = transport("record", "echo \"$1\" >" + log + "; shift; exec sh -c \"$1\"");
    EXPECT_EQ(warm(record + " root@%v").exit_code, 0);
    EXPECT_EQ(read_file(log).value_or(""), "root@web\n");
    EXPECT_EQ(warm(record + " %x").exit_code, 2);
}

TEST_F(Cache, EachKindOfFailureHasItsOwnAnswer) {
    struct Case {
        std::string with;
        int exit_code;
        std::string text;
    };
    const auto good = source_;
    source_ = root_.path() + "/missing";
    auto result = warm();
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_TRUE(has(result.err, "source")) << result.err;
    source_ = good + "/tool"; // no folder
    EXPECT_EQ(warm().exit_code, 1);
    source_ = good;
    const Case cases[] = {
        {"false", 5, "cannot be reached"},
        {"/nonexistent/transport", 5, "cannot be reached"},
        {transport("motd", "echo Welcome; exit 255"), 5, "exit status 255"},
        {transport("silent", "exec sleep 60"), 5, "nothing happened for 1s"},
        {transport("half", "echo thaw-cache: ready; head -c 100000 >/dev/null"), 5, "lost"},
        {transport("refuse", "echo thaw-cache: failed no room; cat >/dev/null"), 1, "no room"},
    };
    for (const auto& [with, exit_code, text] : cases) {
        result = warm(with, {"--timeout=1s"});
        EXPECT_EQ(result.exit_code, exit_code) << with << result.err;
        EXPECT_TRUE(has(result.err, text)) << with << result.err;
        expect_nothing();
    }
}

TEST_F(Cache, ChatterOfLoginShellsIsNoAnswer) {
    const auto chatty = transport("chatty", "echo 'Last login'; exec sh -c \"$1\"");
    EXPECT_EQ(warm(chatty).exit_code, 0);
    expect_complete();
}

TEST_F(Cache, ACutStreamIsNotTakenForComplete) {
    // In the first member, just behind it (which tar takes for an end), in the large file, near the
    // end.
    for (const std::uint64_t bytes : {5, 700, 1024, 1000000, 4197000}) {
        const auto result = warm(cut_at(bytes, "cat >/dev/null"));
        EXPECT_EQ(result.exit_code, 1) << bytes << result.err;
        expect_nothing();
    }
    EXPECT_EQ(warm().exit_code, 0);
    expect_complete();
}

TEST_F(Cache, ARefreshThatFailsLeavesWhatWasThere) {
    ASSERT_EQ(warm().exit_code, 0);
    write("deep/er/small", "other\n");
    const auto cut = cut_at(1000000, "cat >/dev/null");
    EXPECT_EQ(warm(cut, {"--refresh"}).exit_code, 1);
    expect_complete();
    expect_no_leftovers();
}

TEST_F(Cache, AKilledRunLeavesNothingThatCounts) {
    // The guest's shell and its tar die in the middle without a chance to clean up. Like a guest's
    // init we take their remains.
    ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    const auto killed = transport(
        "killed", "IFS= read -r a; IFS= read -r b; IFS= read -r c\n"
                  "mkfifo \"$0.pipe\"; setsid sh -c \"$1\" <\"$0.pipe\" & p=$!\n"
                  "{ printf '%s\\n' \"$a\" \"$b\" \"$c\"; head -c 1000000; exec sleep 60; } "
                  ">\"$0.pipe\" & w=$!\n"
                  "sleep 0.3; kill -KILL -$p; wait $p; kill $w; exit 9"
    );
    const auto result = warm(killed, {"--timeout=5s"});
    EXPECT_EQ(result.exit_code, 5) << result.err;
    EXPECT_FALSE(fs::exists(destination_));
    while (waitpid(-1, nullptr, 0) > 0) {
    }
    ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    EXPECT_EQ(warm().exit_code, 0);
    expect_complete();
    expect_no_leftovers(); // the second run has removed the dead one's part
}

TEST_F(Cache, WhatOthersMadeIsNotReplaced) {
    ASSERT_TRUE(make_directories(destination_));
    EXPECT_EQ(warm().exit_code, 0); // an empty folder is nobody's
    ASSERT_TRUE(remove_if_exists(destination_ + "/" + guest::kSentinel));
    for (const char* option : {"--refresh", "--no-legend"}) {
        const auto result = warm("sh -c", {option});
        EXPECT_EQ(result.exit_code, 1);
        EXPECT_TRUE(has(result.err, "no earlier run made")) << result.err;
    }
    EXPECT_EQ(content("tool"), "#!/bin/sh\n");
}

TEST_F(Cache, ASourceThatChangesIsAnError) {
    const auto slow = cut_at(300000, "sleep 1; cat");
    ProgramOptions options;
    const auto begin = now_monotonic();
    bool cut = false;
    options.meanwhile = [&](pid_t) {
        if (cut || now_monotonic() - begin < 500 * kUsecPerMsec) return;
        cut = true;
        EXPECT_EQ(truncate((source_ + "/deep/large").c_str(), 1000), 0);
    };
    const auto result = warm(slow, {}, options);
    EXPECT_EQ(result.exit_code, 1) << result.out;
    EXPECT_TRUE(has(result.err, "deep/large became shorter")) << result.err;
    expect_nothing();
}

TEST_F(Cache, CtrlCEndsItCleanly) {
    const auto slow = cut_at(300000, "sleep 5");
    ProgramOptions options;
    const auto begin = now_monotonic();
    bool sent = false;
    options.meanwhile = [&](pid_t pid) {
        if (sent || now_monotonic() - begin < 300 * kUsecPerMsec) return;
        sent = true;
        kill(pid, SIGINT);
    };
    const auto result = warm(slow, {}, options);
    EXPECT_EQ(result.exit_code, 7) << result.err;
    EXPECT_FALSE(fs::exists(destination_));
}

TEST_F(Cache, UsageErrors) {
    for (const char* path : {"relative", "/", "/a/../b", "/a//b", "/a\nb", ""}) {
        destination_ = path;
        const auto result = warm();
        EXPECT_EQ(result.exit_code, 2) << path;
        EXPECT_NE(result.err, "");
    }
}

TEST_F(Cache, ProgressIsShownOnATerminal) {
    const auto slow = cut_at(2000000, "sleep 0.4; cat");
    ProgramOptions options;
    options.terminal = true;
    const auto result = warm(slow, {}, options);
    EXPECT_EQ(result.exit_code, 0) << result.out;
    EXPECT_TRUE(has(result.out, "Warming " + destination_)) << result.out;
    EXPECT_TRUE(has(result.out, "[#")) << result.out;
}

} // namespace
} // namespace thaw::ctl
