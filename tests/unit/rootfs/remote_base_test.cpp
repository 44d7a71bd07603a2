// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "overlay/remote_base.hpp"
#include "played_pager.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

namespace thaw::rootfs {
namespace {

using test::must;
using test::PlayedPager;
using Answer = PlayedPager::Answer;

constexpr std::uint64_t kChunk = protocol::kChunkSize;
constexpr std::uint64_t kPage = 4096;

class RemoteBaseTest : public testing::Test {
protected:
    // Two chunks and a half of noise, but for pages 16 to 47 and all of the second chunk's end.
    void SetUp() override {
        content_.resize(2 * kChunk + kChunk / 2);
        std::minstd_rand random(3);
        for (auto& c : content_)
            c = static_cast<char>(random() >> 8 | 1);
        std::fill_n(content_.begin() + 16 * kPage, 32 * kPage, '\0');
        std::fill_n(content_.begin() + 2 * kChunk - 8 * kPage, 8 * kPage, '\0');
        pager_ = std::make_unique<PlayedPager>(socket(), content_);
    }
    std::string socket() const { return folder_ / "base.sock"; }
    std::unique_ptr<RemoteBase> connect() { return must(RemoteBase::connect(socket(), kDigest)); }
    // Whether what is read there is what the base has.
    testing::AssertionResult
    is_right(RemoteBase& base, std::uint64_t offset, std::uint64_t length) {
        std::string bytes(length, '?');
        if (auto read = base.read(offset, std::as_writable_bytes(std::span(bytes))); !read)
            return testing::AssertionFailure() << read.error().message();
        if (content_.compare(offset, length, bytes) != 0)
            return testing::AssertionFailure() << "other bytes at " << offset;
        return testing::AssertionSuccess();
    }
    Result<> read(RemoteBase& base, std::uint64_t offset, std::uint64_t length) {
        std::vector<std::byte> bytes(length);
        return base.read(offset, bytes);
    }

    static constexpr ContentDigest kDigest{9, 8, 7};
    thaw::test::TemporaryDirectory folder_;
    std::string content_;
    std::unique_ptr<PlayedPager> pager_;
};

TEST_F(RemoteBaseTest, WhatIsNotThereIsFetchedOnceAndZerosNever) {
    auto base = connect();
    EXPECT_EQ(base->size(), content_.size());
    EXPECT_TRUE(is_right(*base, 16 * kPage + 1, 31 * kPage));
    EXPECT_TRUE(is_right(*base, 2 * kChunk - 8 * kPage, 8 * kPage));
    EXPECT_TRUE(pager_->wanted().empty());

    EXPECT_TRUE(is_right(*base, 15 * kPage - 5, 40 * kPage));
    ASSERT_EQ(pager_->wanted().size(), 1U);
    EXPECT_EQ(pager_->wanted()[0].pages, 16U); // up to the zeros, and not further
    EXPECT_NE(pager_->last_use(0), 0U);
    EXPECT_EQ(pager_->last_use(1), 0U);
    EXPECT_TRUE(is_right(*base, 0, content_.size()));
    EXPECT_TRUE(is_right(*base, content_.size() - 1, 1));
    EXPECT_EQ(pager_->wanted().size(), 3U); // one for each chunk
}

TEST_F(RemoteBaseTest, HolesAreTheZerosOfTheMap) {
    auto base = connect();
    const auto data = base->extent(0, content_.size());
    EXPECT_FALSE(data.hole);
    EXPECT_EQ(data.length, 16 * kPage);
    const auto hole = base->extent(16 * kPage + 100, content_.size());
    EXPECT_TRUE(hole.hole);
    EXPECT_EQ(hole.length, 32 * kPage - 100);
    EXPECT_EQ(base->extent(17 * kPage, 10).length, 10U);
    const auto identity = must(base->identity());
    EXPECT_EQ(identity.kind, protocol::BaseKind::Content);
    EXPECT_EQ(identity.id, kDigest);
    EXPECT_TRUE(pager_->wanted().empty());
}

TEST_F(RemoteBaseTest, AChunkThatCannotBeHadFailsItsReadersOnlyAndOnlyNow) {
    pager_->decide([](const auto& wanted) {
        return wanted.chunk == 1 ? Answer::Fail : Answer::Land;
    });
    auto base = connect();
    const auto failed = read(*base, kChunk, kPage);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code(), EBADMSG);
    EXPECT_TRUE(is_right(*base, 2 * kChunk, kPage));
    pager_->decide({});
    EXPECT_TRUE(is_right(*base, kChunk, kPage));
}

TEST_F(RemoteBaseTest, ALostAnswerIsAskedForAgain) {
    std::atomic<unsigned> asked = 0;
    pager_->decide([&](const auto&) { return ++asked == 1 ? Answer::Silence : Answer::Land; });
    auto base = connect();
    EXPECT_TRUE(is_right(*base, 0, kPage));
    EXPECT_GE(asked, 2U);
}

TEST_F(RemoteBaseTest, ADeadBrokerIsWaitedForAndWhatItHadIsReadMeanwhile) {
    auto base = connect();
    EXPECT_TRUE(is_right(*base, 0, kPage));
    pager_->stop();
    EXPECT_TRUE(is_right(*base, kChunk - kPage, kPage)); // the chunk is whole
    std::thread waiting([&] { EXPECT_TRUE(is_right(*base, kChunk, kPage)); });
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(pager_->wanted().size(), 1U);
    pager_->start();
    waiting.join();
    EXPECT_EQ(pager_->greeted, 2U);
}

TEST_F(RemoteBaseTest, ABrokerThatDiesWhileItFetchesIsAskedAgain) {
    std::atomic<unsigned> asked = 0;
    pager_->decide([&](const auto&) { return ++asked <= 2 ? Answer::Hang : Answer::Land; });
    auto base = connect();
    EXPECT_TRUE(is_right(*base, 0, kPage));
    EXPECT_EQ(pager_->greeted, 3U);
}

TEST_F(RemoteBaseTest, ANewCacheOfTheSameBaseIsTaken) {
    auto base = connect();
    EXPECT_TRUE(is_right(*base, 0, kPage));
    pager_->stop();
    pager_->forget_all();
    pager_->start();
    EXPECT_TRUE(is_right(*base, kChunk, kPage));
    EXPECT_TRUE(is_right(*base, 0, kPage));
    EXPECT_EQ(pager_->wanted().back().chunk, 0U); // fetched once more
}

TEST_F(RemoteBaseTest, ACacheOfAnotherBaseIsNotTaken) {
    auto base = connect();
    pager_->stop();
    pager_->id = {4, 4, 4};
    pager_->forget_all();
    pager_->start();
    std::thread waiting([&] { EXPECT_TRUE(is_right(*base, 0, kPage)); });
    while (pager_->greeted < 3)
        std::this_thread::yield();
    EXPECT_TRUE(pager_->wanted().empty());
    pager_->stop();
    pager_->id = PlayedPager::kId;
    pager_->forget_all();
    pager_->start();
    waiting.join();
}

TEST_F(RemoteBaseTest, AServerThatIsNotExpectedIsToldSo) {
    pager_->stop();
    pager_.reset();
    const auto none = RemoteBase::connect(folder_ / "none.sock", kDigest);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code(), ENOENT);
    const Fd listener = must(listen_unix(socket(), SOCK_SEQPACKET, 1));
    must(set_nonblocking(listener.get(), false));
    std::thread refuse([&] {
        for (int i = 0; i < 3; ++i) // it may just be restarted
            const Fd client(::accept(listener.get(), nullptr, nullptr));
    });
    const auto refused = RemoteBase::connect(socket(), kDigest);
    refuse.join();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EACCES);
}

TEST_F(RemoteBaseTest, WhoeverWaitedInVainLetsOthersWaitNoLonger) {
    pager_->decide([](const auto&) { return Answer::Silence; });
    auto link = must(ChunkLink::connect(socket()));
    const auto begin = ChunkLink::Clock::now();
    EXPECT_FALSE(link->want(0, 1, 0, begin + std::chrono::milliseconds(100)));
    EXPECT_FALSE(link->want(1, 1, 0, begin + std::chrono::seconds(60)));
    EXPECT_LT(ChunkLink::Clock::now() - begin, std::chrono::seconds(30));
    pager_->decide({});
    EXPECT_TRUE(link->want(2, 1, 0, begin + std::chrono::seconds(60)));
    std::atomic<unsigned> asked = 0;
    pager_->decide([&](const auto&) { return ++asked < 4 ? Answer::Silence : Answer::Land; });
    // Patient again: the lost answers are asked for once a second.
    EXPECT_TRUE(link->want(1, 1, 0, ChunkLink::Clock::now() + std::chrono::seconds(60)));
}

// The race that generations are for: chunks are taken away and fetched again all the time.
TEST_F(RemoteBaseTest, NothingIsReadOfAChunkThatGoes) {
    auto base = connect();
    std::atomic<unsigned> taken = 0;
    const std::jthread taker([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            pager_->take_away(taken++ % 2);
            std::this_thread::yield();
        }
    });
    std::minstd_rand random(5);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    unsigned reads = 0;
    while (std::chrono::steady_clock::now() < end) {
        const auto offset = random() % (kChunk + kChunk / 2);
        ASSERT_TRUE(is_right(*base, offset, kChunk / 2)) << "after " << reads << " reads";
        ++reads;
    }
    EXPECT_GT(reads, 20U);
    EXPECT_GT(taken, 20U);
}

} // namespace
} // namespace thaw::rootfs
