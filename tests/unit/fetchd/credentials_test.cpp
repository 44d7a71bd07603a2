// SPDX-License-Identifier: MIT
#include "config.hpp"
#include "core/file.hpp"
#include "credentials.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace thaw::fetchd {
namespace {

Url url(const std::string& text) {
    auto parsed = parse_url(text);
    EXPECT_TRUE(parsed) << text;
    return parsed ? *parsed : Url{};
}

TEST(Url, IsTakenApart) {
    const auto parsed = url("https://Example.org/a/b?x=1");
    EXPECT_EQ(parsed.scheme, "https");
    EXPECT_EQ(parsed.host, "example.org");
    EXPECT_EQ(parsed.port, "443");
    EXPECT_EQ(parsed.path, "/a/b");
    EXPECT_EQ(url("http://[::1]:8080").path, "/");
    for (const char* bad :
         {"", "x", "ftp://x/", "file:///x", "https://", "https://u:p@x/", "https://x/#f",
          "https://x/a/../b", "https://x/%2E./b", "https://x/a%2fb", "https://x/a\\b",
          "https://x/a b"})
        EXPECT_FALSE(parse_url(bad)) << bad;
    EXPECT_EQ(public_part("https://x/a?X-Amz-Signature=1"), "https://x/a");
}

TEST(Url, IsBelowAnother) {
    const auto prefix = url("https://x.org/a");
    for (const char* below : {"https://x.org/a", "https://x.org/a/b", "https://X.ORG:443/a/"})
        EXPECT_TRUE(is_below(url(below), prefix)) << below;
    for (const char* other :
         {"https://x.org/", "https://x.org/ab", "http://x.org/a", "https://x.org:444/a",
          "https://y.org/a", "https://x.org.evil/a"})
        EXPECT_FALSE(is_below(url(other), prefix)) << other;
}

TEST(Credential, TakesOneKindOfSecretOverTls) {
    const auto good = [](const std::string& text) {
        return parse_credential("[Source]\n" + text, "/creds/sources_x.conf").has_value();
    };
    const std::string https = "Url=https://x.org/\n";
    EXPECT_TRUE(good(https));
    EXPECT_TRUE(good(https + "User=a\nPassword=b\n"));
    EXPECT_TRUE(good(https + "BearerToken=a\n"));
    EXPECT_TRUE(good(https + "S3AccessKey=a\nS3SecretKey=b\nS3Region=c\n"));
    EXPECT_TRUE(good("Url=http://x.org/\n"));
    EXPECT_FALSE(good("Url=http://x.org/\nBearerToken=a\n"));
    EXPECT_FALSE(good(https + "User=a\n"));
    EXPECT_FALSE(good(https + "S3SecretKey=a\n"));
    EXPECT_FALSE(good(https + "User=a\nPassword=b\nBearerToken=c\n"));
    EXPECT_FALSE(good(https + "ClientKey=a\n"));
    EXPECT_FALSE(good(https + "Passwort=a\n"));
    EXPECT_FALSE(good("BearerToken=a\n"));
    EXPECT_FALSE(good(https + "CertificateAuthority=../x\n"));
    const auto placed = parse_credential(
        "[Source]\n" + https + "CertificateAuthority=ca.pem\n", "/creds/sources_x.conf"
    );
    ASSERT_TRUE(placed);
    EXPECT_EQ(placed->certificate_authority, "/creds/sources_ca.pem");
}

TEST(Credential, TheLongestPathThatFitsIsTaken) {
    const test::TemporaryDirectory folder;
    folder.write("sources_a.conf", "[Source]\nUrl=https://x.org/\nBearerToken=all\n");
    folder.write("sources_b.conf", "[Source]\nUrl=https://x.org/b/\nBearerToken=b\n");
    folder.write("sources_bad.conf", "[Source]\nUrl=http://x.org/\nBearerToken=hidden\n");
    folder.write("sources_ca.pem", "no source");
    const auto loaded = load_credentials(folder.path());
    EXPECT_EQ(loaded.list.size(), 2U);
    ASSERT_EQ(loaded.warnings.size(), 1U);
    EXPECT_TRUE(loaded.warnings[0].starts_with("bad.conf: ")) << loaded.warnings[0];
    EXPECT_EQ(loaded.warnings[0].find("hidden"), std::string::npos);
    EXPECT_EQ(loaded.find(url("https://x.org/b/c"))->bearer_token, "b");
    EXPECT_EQ(loaded.find(url("https://x.org/c"))->bearer_token, "all");
    EXPECT_EQ(loaded.find(url("https://y.org/c")), nullptr);
    EXPECT_TRUE(load_credentials("").list.empty());
    EXPECT_TRUE(load_credentials("/nonexistent").list.empty());
}

TEST(Config, TheShippedFileShowsTheDefaults) {
    Config config;
    auto text = read_file(FETCHD_CONF);
    ASSERT_TRUE(text);
    std::size_t shown = 0;
    for (const auto& key : config_keys(config)) {
        const auto at = text->find("#" + key.key + "=");
        ASSERT_NE(at, std::string::npos) << key.key;
        text->erase(at, 1);
        ++shown;
    }
    EXPECT_EQ(shown, 9U);
    EXPECT_TRUE(parse_config(*text, "fetchd.conf", config_keys(config)).empty());
    const Config defaults;
    EXPECT_EQ(config.connect_timeout, defaults.connect_timeout);
    EXPECT_EQ(config.stall_timeout, defaults.stall_timeout);
    EXPECT_EQ(config.total_timeout, defaults.total_timeout);
    EXPECT_EQ(config.most_tries, defaults.most_tries);
    EXPECT_EQ(config.backoff, defaults.backoff);
    EXPECT_EQ(config.backoff_max, defaults.backoff_max);
    EXPECT_EQ(config.most_transfers, defaults.most_transfers);
    EXPECT_EQ(config.idle_exit, defaults.idle_exit);
    EXPECT_EQ(config.proxy, "");
}

} // namespace
} // namespace thaw::fetchd
