// SPDX-License-Identifier: MIT
#include "fetch/file_identity.hpp"
#include "fetch_fixture.hpp"

#include <algorithm>

namespace thaw::fetch {
namespace {

TEST_F(FetchTest, ProbesAnObject) {
    const auto end = probe(web_->url("/object"));
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_EQ(end.identity.length, kSize);
    EXPECT_TRUE(end.identity.etag.starts_with('"'));
    EXPECT_FALSE(end.identity.last_modified.empty());
    EXPECT_EQ(end.tries, 1U);
    serve("/empty", "");
    EXPECT_EQ(identity(web_->url("/empty")).length, 0U);
}

TEST_F(FetchTest, FetchesARangeAndReportsItAsItLands) {
    auto request = whole(web_->url("/object"));
    const auto end = fetch(request);
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_EQ(end.landed, kSize);
    EXPECT_TRUE(bytes(target_, 0, kSize) == content_);
    ASSERT_GE(landed_.size(), 2U);
    EXPECT_TRUE(std::ranges::is_sorted(landed_));
    EXPECT_EQ(landed_.back(), kSize);
    EXPECT_EQ(landed_.front() % 4096, 0U);

    // From the middle to the middle, with ends that are no whole blocks.
    target_ = memory(kSize);
    request.target = target_.get();
    request.offset = 12345;
    request.length = 70001;
    request.target_offset = 8192;
    ASSERT_TRUE(fetch(request).result);
    EXPECT_TRUE(bytes(target_, 8192, 70001) == content_.substr(12345, 70001));
    EXPECT_TRUE(bytes(target_, 0, 8192) == std::string(8192, '\0'));
    EXPECT_TRUE(bytes(target_, 8192 + 70001, 4096) == std::string(4096, '\0'));
}

TEST_F(FetchTest, WritesToAFileThatTakesWholeBlocksOnly) {
    const auto path = folder_.write("disk", std::string(kSize, 'x'));
    const Fd file(::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
    if (!file) GTEST_SKIP() << "no O_DIRECT in " << folder_.path();
    auto request = whole(web_->url("/object"));
    request.target = file.get();
    const auto end = fetch(request);
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_TRUE(fakes::must(read_file(path, kSize)) == content_);
}

TEST_F(FetchTest, ManyAtOnceAllArrive) {
    constexpr std::size_t kPiece = 64 << 10;
    const auto pinned = identity(web_->tls_url("/object").empty() ? "" : web_->url("/object"));
    target_ = memory(kSize);
    std::size_t done = 0;
    for (std::size_t at = 0; at < kSize; at += kPiece) {
        auto id = client_->fetch(
            {.url = web_->url("/object"),
             .identity = pinned,
             .offset = at,
             .length = kPiece,
             .target = target_.get(),
             .target_offset = at},
            {},
            [&](FetchEnd end) {
                EXPECT_TRUE(end.result) << text(end);
                ++done;
            }
        );
        ASSERT_TRUE(id);
    }
    EXPECT_TRUE(fakes::run_until(*loop_, [&] { return done == kSize / kPiece; }));
    EXPECT_TRUE(bytes(target_, 0, kSize) == content_);
    EXPECT_EQ(client_->under_way(), 0U);
}

TEST_F(FetchTest, ATargetThatTakesNothingIsSaid) {
    auto request = whole(web_->url("/object"));
    const Fd read_only(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    request.target = read_only.get();
    const auto end = fetch(request);
    EXPECT_EQ(name(end), source_error::kTarget);
    EXPECT_EQ(end.tries, 1U);
    EXPECT_FALSE(end.retryable);
    EXPECT_EQ(end.landed, 0U);
}

TEST_F(FetchTest, CancelEndsItAndTheNextOneIsServed) {
    auto request = whole(web_->proxied("/object"));
    web_->spoil({.kind = "stall", .after = 100000});
    start("[Fetch]\nStallTimeoutSec=60s\n");
    std::optional<FetchEnd> got;
    const auto id = client_->fetch(request, {}, [&](FetchEnd end) { got = std::move(end); });
    ASSERT_TRUE(id);
    fakes::run_until(*loop_, [&] { return web_->request_count() == 1; });
    client_->cancel(*id);
    EXPECT_FALSE(got);
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return got.has_value(); }));
    EXPECT_EQ(name(*got), source_error::kCanceled);
    web_->clear();
    EXPECT_TRUE(fetch(request).result);
}

TEST_F(FetchTest, PutsAFile) {
    const auto path = folder_.write("image", content_);
    const Fd source(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const auto end = end_of([&](auto done) {
        return client_->put(web_->url("/new/folder/memory"), source.get(), kSize, {}, done);
    });
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_TRUE(fakes::must(read_file(web_->www("/new/folder/memory"), kSize)) == content_);
    // A server that fails once is asked again, from the start.
    web_->spoil({.kind = "status", .count = 1, .value = "503"});
    const auto again = end_of([&](auto done) {
        return client_->put(web_->proxied("/again"), source.get(), kSize, {}, done);
    });
    ASSERT_TRUE(again.result) << text(again);
    EXPECT_EQ(again.tries, 2U);
    EXPECT_TRUE(fakes::must(read_file(web_->www("/again"), kSize)) == content_);
    // Shorter than announced: nothing is left behind.
    const auto cut = end_of([&](auto done) {
        return client_->put(web_->url("/cut"), source.get(), kSize + 1, {}, done);
    });
    EXPECT_EQ(name(cut), source_error::kRead);
    EXPECT_NE(::access(web_->www("/cut").c_str(), F_OK), 0);
}

TEST_F(FetchTest, ReadsAFileAndNoticesAnotherOne) {
    const auto path = folder_.write("memory", content_);
    const Fd source(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    target_ = memory(kSize);
    const FetchRequest request{
        .source = source.get(),
        .identity = fakes::must(file_identity(source.get())),
        .offset = 4096,
        .length = kSize - 4096,
        .target = target_.get(),
    };
    const auto end = fetch(request);
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_TRUE(bytes(target_, 0, kSize - 4096) == content_.substr(4096));
    EXPECT_EQ(landed_.back(), kSize - 4096);
    std::ofstream(path, std::ios::in | std::ios::out) << "changed";
    const auto changed = fetch(request);
    EXPECT_EQ(name(changed), source_error::kChanged);
    EXPECT_EQ(changed.landed, 0U);
}

TEST_F(FetchTest, RequestsWithoutSenseAreRefusedAtOnce) {
    target_ = memory(kSize);
    const auto refused = [&](FetchRequest request) {
        const auto id = client_->fetch(request, {}, {});
        return !id && id.error().bus_name() == source_error::kInvalid;
    };
    FetchRequest request{
        .url = "http://x/", .identity = {.length = 10}, .length = 10, .target = target_.get()
    };
    request.offset = 1;
    EXPECT_TRUE(refused(request));
    request.offset = 0;
    request.length = 0;
    EXPECT_TRUE(refused(request));
    request.length = 10;
    request.url = "http://" + std::string(5000, 'x');
    EXPECT_TRUE(refused(request));
    request.url = "";
    EXPECT_TRUE(refused(request));
    EXPECT_EQ(client_->under_way(), 0U);
    for (const char* url :
         {"ftp://127.0.0.1/x", "file:///etc/passwd", "http://a:b@127.0.0.1/x",
          "http://127.0.0.1/a/%2e%2E/b", "nonsense"})
        EXPECT_EQ(name(probe(url)), source_error::kInvalid) << url;
}

} // namespace
} // namespace thaw::fetch
