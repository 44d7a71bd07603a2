// SPDX-License-Identifier: MIT
#include "config.hpp"
#include "core/file.hpp"

#include <gtest/gtest.h>

#include <regex>

namespace thaw::diskguard {
namespace {

struct Parsed {
    Config config;
    std::vector<ConfigWarning> warnings;
};

bool same(const Config& a, const Config& b) {
    return a.paths == b.paths && a.reserve == b.reserve && a.rearm.factor == b.rearm.factor &&
           a.rearm.dwell == b.rearm.dwell && a.max_leases == b.max_leases && a.poll == b.poll &&
           a.pressure == b.pressure && a.bytes == b.bytes && a.inodes == b.inodes &&
           a.margin_percent == b.margin_percent && a.settle == b.settle && a.release == b.release &&
           a.release_cooldown == b.release_cooldown && a.writers == b.writers;
}

Parsed parse(std::string_view text) {
    Parsed parsed;
    const auto keys = config_keys(parsed.config);
    parsed.warnings = parse_config(text, "test.conf", keys);
    return parsed;
}

TEST(Config, TheSampleShowsEveryKeyWithItsDefault) {
    const auto sample = read_file(DISKGUARDD_SAMPLE);
    ASSERT_TRUE(sample) << sample.error().message();
    const auto plain = parse(*sample);
    EXPECT_TRUE(plain.warnings.empty());
    EXPECT_TRUE(same(plain.config, Config{}));
    const auto active = std::regex_replace(*sample, std::regex("\n#([A-Z][A-Za-z]*=)"), "\n$1");
    const auto all = parse(active);
    for (const auto& warning : all.warnings)
        ADD_FAILURE() << warning.line << ": " << warning.text;
    EXPECT_TRUE(same(all.config, Config{}));
    Config unused;
    for (const auto& key : config_keys(unused))
        EXPECT_NE(active.find("\n" + key.key + "="), std::string::npos) << key.key;
}

TEST(Config, Values) {
    const auto parsed = parse("[Guard]\nPaths=/a /b\nPaths=/c\nRootWriters=yes\nReserveSize=auto\n"
                              "[Levels]\nFullPercent=0.5%\nLowBytes=1G\n"
                              "[Policy]\nRelease=auto\nWriters=pause\n");
    EXPECT_TRUE(parsed.warnings.empty());
    EXPECT_EQ(parsed.config.paths, (std::vector<std::string>{"/a", "/b", "/c"}));
    EXPECT_TRUE(parsed.config.reserve.automatic);
    EXPECT_TRUE(parsed.config.reserve.root_writers);
    EXPECT_EQ(parsed.config.bytes.full.permyriad, 50U);
    EXPECT_EQ(parsed.config.bytes.low.amount, kGibibyte);
    EXPECT_EQ(parsed.config.release, ReleasePolicy::Auto);
    EXPECT_EQ(parsed.config.writers, diskguard1::Writers::Pause);
}

TEST(Config, BadValuesAreIgnoredAndSaid) {
    const auto parsed = parse("[Guard]\nPaths=relative\nReserveSize=much\nPollFastestSec=0\n"
                              "[Levels]\nFullPercent=5\nLowPercent=101%\nLowInodesPercent=1.234%\n"
                              "[Policy]\nRelease=sometimes\nWriters=kill\n[Nonsense]\nX=1\n");
    EXPECT_EQ(parsed.warnings.size(), 9U);
    EXPECT_TRUE(same(parsed.config, Config{}));
}

TEST(Config, Percentages) {
    EXPECT_EQ(parse_permyriad("100%"), 10000U);
    EXPECT_EQ(parse_permyriad("1.5%"), 150U);
    EXPECT_EQ(parse_permyriad("0.05%"), 5U);
    for (const char* bad : {"", "%", "5", "100.01%", "1.%", ".5%", "-1%", "1.2.3%", "x%"})
        EXPECT_FALSE(parse_permyriad(bad)) << bad;
}

TEST(Config, AutomaticReleaseNeedsPausedWriters) {
    Config config;
    config.release = ReleasePolicy::Auto;
    EXPECT_EQ(reconcile(config).size(), 1U);
    EXPECT_EQ(config.release, ReleasePolicy::Manual);
    config.release = ReleasePolicy::Auto;
    config.writers = diskguard1::Writers::Pause;
    EXPECT_TRUE(reconcile(config).empty());
    EXPECT_EQ(config.release, ReleasePolicy::Auto);
}

TEST(Config, WorseLevelsNeverBeginAboveBetterOnes) {
    Config config;
    config.bytes.full = {20 * kGibibyte, 100};
    EXPECT_EQ(reconcile(config).size(), 1U);
    EXPECT_EQ(config.bytes.full.amount, config.bytes.critical.amount);
    EXPECT_TRUE(reconcile(config).empty());
}

TEST(Config, TheDefaultPathSaidAloudIsKept) {
    const auto usual = Config{}.paths;
    ASSERT_EQ(usual.size(), 1U);
    const auto parsed = parse(fmt::format("[Guard]\nPaths={}\nPaths=/srv/data\n", usual[0]));
    EXPECT_EQ(parsed.config.paths, (std::vector<std::string>{usual[0], "/srv/data"}));
}

} // namespace
} // namespace thaw::diskguard
