// SPDX-License-Identifier: MIT
#include "api/diskguard1.hpp"
#include "lease.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <memory>

namespace thaw::diskguard {
namespace {

LeaseRecord sample() {
    return {
        .id = "0123456789abcdef",
        .volume = "uuid-1",
        .bytes = 5 << 20,
        .who = "thaw-restored",
        .why = "restore of \"web\"\n",
        .uid = 0,
        .since = 1700000000000000,
    };
}

TEST(LeaseRecord, ThereAndBack) {
    const auto parsed = parse_lease(format_lease(sample()));
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(*parsed, sample());
}

TEST(LeaseRecord, HostileTexts) {
    for (const char* text :
         {"", "{}", "[]", "null", R"({"id":"0123456789abcdef"})",
          R"({"id":"../../x","volume":"v","bytes":1,"who":"a","why":"b","uid":0,"since":1})",
          R"({"id":"0123456789abcdef","volume":"v","bytes":-1,"who":"a","why":"b","uid":0,"since":1})",
          R"({"id":"0123456789abcdef","volume":"v","bytes":1,"who":"a","why":"b","uid":4294967296,"since":1})"
         })
        EXPECT_FALSE(parse_lease(text)) << text;
}

class Book : public testing::Test {
protected:
    void SetUp() override { reopen(4); }
    void reopen(std::size_t limit) {
        store_ = std::make_unique<FdStore>(limit, 0);
        book_ = std::make_unique<LeaseBook>(*loop_, *store_, limit, [this](const LeaseRecord& r) {
            closed_.push_back(r.id);
        });
    }
    LeaseRecord wanted(std::uint64_t bytes, const char* volume = "v") {
        return {.volume = volume, .bytes = bytes, .who = "w", .why = "y"};
    }
    void turn() {
        for (int i = 0; i < 5; ++i)
            ASSERT_TRUE(loop_->run_once(0));
    }
    Result<EventLoop> loop_ = EventLoop::create();
    std::unique_ptr<FdStore> store_;
    std::unique_ptr<LeaseBook> book_;
    std::vector<std::string> closed_;
};

TEST_F(Book, ClosingGivesBack) {
    auto first = wanted(10);
    auto second = wanted(20);
    auto elsewhere = wanted(40, "other");
    auto one = book_->add(first);
    auto two = book_->add(second);
    auto three = book_->add(elsewhere);
    ASSERT_TRUE(one && two && three);
    EXPECT_EQ(book_->promised("v"), 30U);
    EXPECT_EQ(book_->promised("other"), 40U);
    turn();
    EXPECT_TRUE(closed_.empty());
    // A second descriptor of the same lease keeps it.
    auto copy = one->duplicate();
    one->reset();
    turn();
    EXPECT_EQ(book_->promised("v"), 30U);
    copy->reset();
    turn();
    EXPECT_EQ(closed_, std::vector<std::string>{first.id});
    EXPECT_EQ(book_->promised("v"), 20U);
    EXPECT_EQ(book_->list().size(), 2U);
}

TEST_F(Book, Limit) {
    reopen(1);
    auto first = wanted(1);
    auto second = wanted(1);
    auto one = book_->add(first);
    ASSERT_TRUE(one);
    auto two = book_->add(second);
    ASSERT_FALSE(two);
    EXPECT_EQ(two.error().bus_name(), diskguard1::error::kTooManyLeases);
}

TEST_F(Book, PromisesDoNotOverflow) {
    auto first = wanted(UINT64_MAX);
    auto second = wanted(5);
    auto one = book_->add(first);
    auto two = book_->add(second);
    EXPECT_EQ(book_->promised("v"), UINT64_MAX);
}

TEST_F(Book, OwnersCanOnlyClose) {
    auto record = wanted(1);
    auto owner = book_->add(record);
    ASSERT_TRUE(owner);
    EXPECT_LT(::send(owner->get(), "x", 1, MSG_NOSIGNAL), 0);
}

// What a guardian that is started anew gets from the store: a copy of our end.
TEST_F(Book, AdoptionReadsTheRecordAndLeavesItForTheNext) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    Fd ours(ends[0]);
    Fd theirs(ends[1]);
    const auto text = format_lease(sample());
    ASSERT_GT(::send(theirs.get(), text.data(), text.size(), 0), 0);
    ASSERT_EQ(::shutdown(theirs.get(), SHUT_WR), 0);
    for (int generation = 0; generation < 2; ++generation) {
        reopen(4);
        std::vector<NamedFd> stored;
        stored.push_back({stored_lease_name(sample().id), *ours.duplicate()});
        stored.push_back({"somebody-elses", *ours.duplicate()});
        book_->adopt(std::move(stored));
        ASSERT_EQ(book_->list().size(), 1U) << generation;
        EXPECT_EQ(book_->list().front(), sample());
    }
    theirs.reset();
    turn();
    EXPECT_EQ(closed_, std::vector<std::string>{sample().id});
    // Given back while nobody was there.
    reopen(4);
    std::vector<NamedFd> stored;
    stored.push_back({stored_lease_name(sample().id), *ours.duplicate()});
    book_->adopt(std::move(stored));
    EXPECT_EQ(book_->size(), 0U);
}

} // namespace
} // namespace thaw::diskguard
