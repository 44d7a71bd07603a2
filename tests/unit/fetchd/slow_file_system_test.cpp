// SPDX-License-Identifier: MIT

// A source on a file system whose server hangs, or fails.

#include "fakes/slow_file.hpp"
#include "fetch/file_identity.hpp"
#include "fetch_fixture.hpp"

#include <optional>

namespace thaw::fetch {
namespace {

class SlowFileSystem : public FetchTest {
protected:
    void SetUp() override {
        FetchTest::SetUp();
        if (IsSkipped()) return;
        const auto path = folder_.write("backing", content_);
        const Fd backing(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        std::filesystem::create_directories(folder_ / "mounted");
        auto served = fakes::SlowFile::serve(
            {.backing = backing.get(), .folder = folder_ / "mounted", .direct = true}
        );
        if (!served) GTEST_SKIP() << served.error().message();
        slow_.emplace(std::move(*served));
        source_ = Fd(::open(slow_->path().c_str(), O_RDONLY | O_CLOEXEC));
        target_ = memory(kSize);
    }
    void TearDown() override {
        if (slow_) slow_->gate().closed = false;
        FetchTest::TearDown();
        source_.reset();
        slow_.reset();
    }
    FetchRequest request() const {
        return {
            .source = source_.get(),
            .identity = fakes::must(file_identity(source_.get())),
            .length = kSize,
            .target = target_.get(),
        };
    }
    std::optional<fakes::SlowFile> slow_;
    Fd source_;
};

TEST_F(SlowFileSystem, OneThatHangsIsATimeoutAndHoldsUpNobody) {
    slow_->gate().first = 1 << 20;
    slow_->gate().closed = true;
    std::optional<FetchEnd> hung;
    ASSERT_TRUE(client_->fetch(request(), {}, [&](FetchEnd end) { hung = std::move(end); }));
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return slow_->gate().waiting > 0; }));
    // Meanwhile others are served.
    auto other = whole(web_->url("/object"));
    const auto of_web = std::exchange(target_, memory(kSize));
    other.target = of_web.get();
    EXPECT_TRUE(fetch(other).result);
    EXPECT_GT(slow_->gate().waiting, 0U) << "the read is given up, and hangs on";
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return hung.has_value(); }));
    EXPECT_EQ(name(*hung), source_error::kTimeout) << text(*hung);
    EXPECT_EQ(hung->tries, 4U);
    EXPECT_TRUE(hung->retryable);
    EXPECT_EQ(hung->landed, 1U << 20);
    // The reads that come back late write nothing.
    slow_->gate().closed = false;
    fakes::run_for(*loop_, 100 * kUsecPerMsec);
    EXPECT_TRUE(fetch(request()).result);
    EXPECT_TRUE(bytes(target_, 0, kSize) == content_);
    EXPECT_EQ(service_->starts(), 1U);
}

TEST_F(SlowFileSystem, OneThatFailsIsReadAgainAndThenSaid) {
    slow_->gate().first = 1 << 20;
    slow_->gate().broken = true;
    const auto end = fetch(request());
    EXPECT_EQ(name(end), source_error::kRead) << text(end);
    EXPECT_EQ(end.tries, 4U);
    slow_->gate().broken = false;
    EXPECT_TRUE(fetch(request()).result);
    EXPECT_TRUE(bytes(target_, 0, kSize) == content_);
}

} // namespace
} // namespace thaw::fetch
