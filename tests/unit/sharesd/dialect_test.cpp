// SPDX-License-Identifier: MIT
#include "api/shares1.hpp"
#include "dialect.hpp"
#include "handle_probe.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace thaw::sharesd {
namespace {

bool has(const std::vector<std::string>& words, std::string_view word) {
    return std::ranges::find(words, word) != words.end();
}

TEST(ParseCapabilities, ThreeDialects) {
    EXPECT_EQ(parse_capabilities("{\n  \"type\": \"fs\"\n}\n").value(), Dialect::C);
    EXPECT_EQ(
        parse_capabilities(R"({"type":"fs","features":["migrate-precopy","separate-options"]})")
            .value(),
        Dialect::Rust
    );
    EXPECT_EQ(
        parse_capabilities(
            R"({"type":"fs","features":["separate-options","posix-acl-negotiation-mode"]})"
        )
            .value(),
        Dialect::RustNext
    );
}

TEST(ParseCapabilities, RefusesWhatIsNoVirtiofsd) {
    for (const char* text :
         {"", "{}", "[]", R"({"type":"gpu"})", R"({"type":"fs","features":3})",
          "usage: cat [OPTION]", R"({"type":"fs","features":[1]})"})
        EXPECT_FALSE(parse_capabilities(text)) << text;
}

TEST(CommandLine, Rust) {
    ShareOptions options{.read_only = true, .cache = CacheMode::Never};
    options.translate_uid = {"map:1000:1001:1"};
    const auto words =
        command_line("/v", Dialect::Rust, "tag", options, HandleMode::Mandatory).value();
    EXPECT_EQ(
        words, (std::vector<std::string>{
                   "/v", "--fd=3", "--shared-dir=/run/thaw/share", "--rlimit-nofile=0",
                   "--thread-pool-size=0", "--cache=never", "--sandbox=namespace",
                   "--inode-file-handles=mandatory", "--readonly", "--translate-uid=map:1000:1001:1"
               })
    );
}

TEST(CommandLine, RustAlwaysSaysHowInodesAreNamed) {
    // The default is another one in each version.
    for (const auto dialect : {Dialect::Rust, Dialect::RustNext})
        EXPECT_TRUE(
            has(command_line("/v", dialect, "t", {}, HandleMode::Never).value(),
                "--inode-file-handles=never")
        );
    const ShareOptions acl{.posix_acl = true};
    EXPECT_TRUE(
        has(command_line("/v", Dialect::Rust, "t", acl, HandleMode::Never).value(), "--posix-acl")
    );
    EXPECT_TRUE(
        has(command_line("/v", Dialect::RustNext, "t", acl, HandleMode::Never).value(),
            "--posix-acl=always")
    );
}

TEST(CommandLine, TheTagIsOfferedOnlyWhenAskedFor) {
    EXPECT_FALSE(
        has(command_line("/v", Dialect::Rust, "t", {}, HandleMode::Never).value(), "--tag=t")
    );
    const ShareOptions options{.offer_tag = true};
    EXPECT_TRUE(
        has(command_line("/v", Dialect::Rust, "t", options, HandleMode::Never).value(), "--tag=t")
    );
}

TEST(CommandLine, CHasFewerOptionsAndSaysWhich) {
    const auto words =
        command_line(
            "/v", Dialect::C, "t", {.cache = CacheMode::Never, .xattr = true}, HandleMode::Never
        )
            .value();
    EXPECT_TRUE(has(words, "--rlimit-nofile=0"));
    EXPECT_TRUE(has(words, "source=/run/thaw/share"));
    EXPECT_TRUE(has(words, "cache=none"));
    EXPECT_TRUE(has(words, "xattr"));
    const auto refused = [](const ShareOptions& options, HandleMode handles) {
        const auto done = command_line("/v", Dialect::C, "t", options, handles);
        return !done && done.error().bus_name() == shares1::error::kOptionUnsupported;
    };
    EXPECT_TRUE(refused({}, HandleMode::Prefer));
    EXPECT_TRUE(refused({.sandbox = Sandbox::None}, HandleMode::Never));
    EXPECT_TRUE(refused({.cache = CacheMode::Metadata}, HandleMode::Never));
    EXPECT_TRUE(refused({.allow_mmap = true}, HandleMode::Never));
    EXPECT_TRUE(refused({.offer_tag = true}, HandleMode::Never));
    ShareOptions maps;
    maps.translate_gid = {"map:0:0:1"};
    EXPECT_TRUE(refused(maps, HandleMode::Never));
}

TEST(ChooseHandles, AutoTakesWhatIsThere) {
    const HandleProbe all{.root = true, .mounts = true, .reason = ""};
    const HandleProbe root{.root = true, .mounts = false, .reason = "/s/m: no file handle"};
    const HandleProbe none{.root = false, .mounts = false, .reason = "/s: no file handle"};
    const auto mode = [](HandleMode wanted, const HandleProbe& probe) {
        return choose_handles(wanted, Dialect::Rust, true, probe).value().mode;
    };
    EXPECT_EQ(mode(HandleMode::Auto, all), HandleMode::Prefer);
    EXPECT_EQ(mode(HandleMode::Auto, root), HandleMode::Prefer);
    EXPECT_EQ(mode(HandleMode::Auto, none), HandleMode::Never);
    EXPECT_EQ(mode(HandleMode::Prefer, none), HandleMode::Never);
    EXPECT_EQ(mode(HandleMode::Never, all), HandleMode::Never);
    EXPECT_EQ(mode(HandleMode::Mandatory, all), HandleMode::Mandatory);
    EXPECT_EQ(
        choose_handles(HandleMode::Auto, Dialect::Rust, true, none).value().reason, none.reason
    );
}

TEST(ChooseHandles, MandatoryFailsClosedWithTheReason) {
    const HandleProbe all{.root = true, .mounts = true, .reason = ""};
    const HandleProbe root{.root = true, .mounts = false, .reason = "/s/m: no file handle"};
    const auto refusal = [](Dialect dialect, bool privileged, const HandleProbe& probe) {
        const auto choice = choose_handles(HandleMode::Mandatory, dialect, privileged, probe);
        if (choice || choice.error().bus_name() != shares1::error::kHandlesUnavailable)
            return std::string("not refused");
        return choice.error().message();
    };
    EXPECT_NE(refusal(Dialect::Rust, true, root).find("/s/m"), std::string::npos);
    EXPECT_NE(refusal(Dialect::C, true, all).find("dialect c"), std::string::npos);
    EXPECT_NE(refusal(Dialect::Rust, false, all).find("CAP_DAC_READ_SEARCH"), std::string::npos);
}

} // namespace
} // namespace thaw::sharesd
