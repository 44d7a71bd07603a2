// SPDX-License-Identifier: MIT
#include "api/restore1.hpp"
#include "backend_choice.hpp"
#include "config.hpp"
#include "core/fd.hpp"
#include "image/manifest.hpp"
#include "page_cache.hpp"
#include "policy.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace thaw::restore {
namespace {

constexpr auto k4K = image::kPageSize4K;
constexpr auto k2M = image::kPageSize2M;

Backend chosen(const BackendQuestion& question) {
    const auto choice = choose_backend(question);
    EXPECT_TRUE(choice);
    if (!choice) return Backend::Auto;
    EXPECT_FALSE(choice->reason.empty());
    return choice->backend;
}

bool refused(const BackendQuestion& question) {
    const auto choice = choose_backend(question);
    return !choice && choice.error().bus_name() == restore1::error::kBackendUnsupported;
}

TEST(BackendChoice, AutoMapsWhatIsCachedAndUnshared) {
    EXPECT_EQ(chosen({.page_size = k4K, .cached = 1.0}), Backend::File);
    EXPECT_EQ(chosen({.page_size = k4K, .cached = kCachedEnough}), Backend::File);
    EXPECT_EQ(chosen({.page_size = k4K, .cached = 0.89}), Backend::Uffd);
    EXPECT_EQ(chosen({.page_size = k4K, .cached = 1.0, .in_use = true}), Backend::Uffd);
    EXPECT_EQ(chosen({.page_size = k2M, .cached = 1.0}), Backend::Uffd);
}

TEST(BackendChoice, WishAndPolicyBind) {
    EXPECT_EQ(chosen({.requested = Backend::Uffd, .page_size = k4K, .cached = 1.0}), Backend::Uffd);
    EXPECT_EQ(chosen({.requested = Backend::File, .page_size = k4K}), Backend::File);
    EXPECT_EQ(chosen({.policy = Backend::File, .page_size = k4K}), Backend::File);
    EXPECT_EQ(chosen({.policy = Backend::Uffd, .page_size = k4K, .cached = 1.0}), Backend::Uffd);
}

TEST(BackendChoice, ABreakerRefusesRatherThanGuesses) {
    EXPECT_TRUE(refused({.requested = Backend::File, .page_size = k2M}));
    EXPECT_TRUE(refused({.policy = Backend::File, .page_size = k2M}));
    EXPECT_TRUE(refused({.requested = Backend::File, .policy = Backend::Uffd, .page_size = k4K}));
    EXPECT_TRUE(refused({.requested = Backend::Uffd, .policy = Backend::File, .page_size = k4K}));
}

TEST(BackendChoice, WhatOnlyThePagerCanLoadIsNeverMapped) {
    for (const auto& only :
         {BackendQuestion{.page_size = k4K, .cached = 1.0, .layered = true},
          BackendQuestion{.page_size = k4K, .cached = 1.0, .remote = true},
          BackendQuestion{.page_size = k4K, .cached = 1.0, .tracked = true}}) {
        EXPECT_EQ(chosen(only), Backend::Uffd);
        auto question = only;
        question.requested = Backend::File;
        EXPECT_TRUE(refused(question));
        question = only;
        question.policy = Backend::File;
        EXPECT_TRUE(refused(question));
    }
}

TEST(PageCache, SeesWhatIsThere) {
    char name[] = "/var/tmp/thaw-page-cache-XXXXXX";
    const Fd fd(mkstemp(name));
    ASSERT_TRUE(fd);
    unlink(name);
    constexpr std::uint64_t kSize = 4 << 20;
    ASSERT_EQ(ftruncate(fd.get(), kSize), 0);
    EXPECT_EQ(cached_share(fd.get(), 0), 0);
    EXPECT_LT(cached_share(fd.get(), kSize), 0.1); // a hole that nobody has read
    const std::string bytes(kSize, 'x');
    ASSERT_EQ(pwrite(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(kSize));
    EXPECT_GT(cached_share(fd.get(), kSize), 0.9);
}

TEST(Config, TheSampleShowsTheDefaults) {
    std::ifstream file(RESTORED_CONF);
    std::string sample, line;
    while (std::getline(file, line)) {
        // "#Key=value" is a default, "# text" is prose.
        if (line.size() > 1 && line[0] == '#' && std::isupper(line[1])) line.erase(0, 1);
        sample += line + "\n";
    }
    Config read{
        .memory_backend = Backend::File,
        .prefetch = false,
        .recording = false,
        .load_timeout = 1,
        .max_jobs = 1,
        .max_parallel = 1,
        .keep_free = 1,
    };
    const auto warnings = parse_config(sample, "restored.conf", config_keys(&read));
    EXPECT_TRUE(warnings.empty()) << warnings[0].text;
    const Config defaults;
    EXPECT_EQ(policy_of(read), policy_of(defaults));
    EXPECT_EQ(read.load_timeout, defaults.load_timeout);
    EXPECT_EQ(read.max_jobs, defaults.max_jobs);
    EXPECT_EQ(read.max_parallel, defaults.max_parallel);
    EXPECT_EQ(read.keep_free, defaults.keep_free);
}

TEST(Config, BadValuesAreReportedAndIgnored) {
    Config config;
    const auto warnings = parse_config(
        "[Restore]\nMemoryBackend=magic\nLoadTimeoutSec=0\nPrefetch=no\n[Limits]\nMaxJobs=0\n",
        "x.conf", config_keys(&config)
    );
    EXPECT_EQ(warnings.size(), 3U);
    EXPECT_EQ(config.memory_backend, Backend::Auto);
    EXPECT_EQ(config.load_timeout, Config{}.load_timeout);
    EXPECT_FALSE(config.prefetch);
}

TEST(Policy, SurvivesAsText) {
    const Policy policy{Backend::File, false, true};
    const auto read = parse_policy(format_policy(policy), {});
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(*read, policy);
    EXPECT_EQ(*parse_policy("{}", policy), policy);
    EXPECT_FALSE(parse_policy("{\"prefetch\":3}", policy));
    EXPECT_FALSE(parse_policy("", policy));
}

} // namespace
} // namespace thaw::restore
