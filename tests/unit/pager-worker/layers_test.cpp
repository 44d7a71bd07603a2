// SPDX-License-Identifier: MIT
// Images that are differences: every page from the file that has it, and from no other.

#include "harness.hpp"

#include <fcntl.h>

#include <numeric>
#include <random>

namespace thaw::test {
namespace {

using protocol::ControlType;
using protocol::FailureReason;

constexpr std::uint64_t kLayeredSize = 16 << 20;
constexpr std::uint64_t kLayeredPages = kLayeredSize / kPage;

class Layers : public ::testing::TestWithParam<const char*> {
protected:
    BrokerOptions options(std::uint32_t flags = 0) const {
        BrokerOptions options;
        options.engine = GetParam();
        options.flags = flags;
        return options;
    }
    static std::uint64_t wrong_pages(const Guest& guest) {
        std::uint64_t wrong = 0;
        for (std::uint64_t page = 0; page < kLayeredPages; ++page)
            wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
        return wrong;
    }
    HangGuard guard_{60};
};
INSTANTIATE_TEST_SUITE_P(Engines, Layers, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(Layers, EachPageComesFromTheFileThatHasIt) {
    for (const unsigned bases : {1U, 3U, 7U})
        for (const std::uint32_t flags : {0U, protocol::kFlagUnchecked}) {
            TestImage image(kLayeredSize);
            image.lay_over(bases);
            const Guest guest({.size = kLayeredSize, .split = 5 << 20});
            Broker broker(image, guest, options(flags));
            auto worker = broker.start_ready();
            std::vector<std::uint64_t> order(kLayeredPages);
            std::iota(order.begin(), order.end(), 0);
            std::shuffle(order.begin(), order.end(), std::mt19937_64(bases));
            std::uint64_t wrong = 0;
            for (const std::uint64_t page : order)
                wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
            EXPECT_EQ(wrong, 0U) << bases << " bases, flags " << flags;
        }
}

TEST_P(Layers, AllOfItIsLoadedByComplete) {
    for (const std::uint32_t flags : {0U, protocol::kFlagUnchecked}) {
        TestImage image(kLayeredSize);
        image.lay_over(3);
        const Guest guest({.size = kLayeredSize, .split = 5 << 20});
        Broker broker(image, guest, options(flags));
        broker.memory().request_populate(true);
        auto worker = broker.start_ready();
        ASSERT_TRUE(worker.receive(ControlType::Complete));
        worker.kill();
        guest.unregister();
        EXPECT_EQ(wrong_pages(guest), 0U);
    }
}

// From files that are not in the page cache: read beside everything else.
TEST_P(Layers, ColdFilesAreReadAsWell) {
    TestImage image(kLayeredSize, "/var/tmp");
    image.lay_over(2);
    image.cool();
    const Guest guest({.size = kLayeredSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    EXPECT_EQ(wrong_pages(guest), 0U);
}

TEST_P(Layers, ARottenPageOfABaseIsNotServed) {
    TestImage image(kLayeredSize);
    image.lay_over(2);
    const std::uint64_t page = 31; // of the second base
    ASSERT_EQ(image.layer_of(page), 1U);
    image.flip(page);
    const Guest guest({.size = kLayeredSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    broker.memory().request_populate(true);
    Broker::attend(worker);
    // Everything else gets in; this one neither as it is nor as zeros.
    EXPECT_TRUE(eventually([&] {
        return broker.state().populate_state ==
               static_cast<std::uint32_t>(protocol::PopulateState::Failed);
    }));
    EXPECT_FALSE(broker.memory().is_present(page));
    image.flip(page); // put right
    EXPECT_EQ(wrong_pages(guest), 0U);
}

TEST_P(Layers, FilesThatDoNotBelongTogetherAreRefused) {
    TestImage image(kLayeredSize);
    image.lay_over(2);
    TestImage other(kLayeredSize);
    other.lay_over(1);
    const Guest guest({.size = kLayeredSize});
    for (const bool foreign_table : {true, false}) {
        auto with = options();
        if (foreign_table)
            with.layers = Fd(::fcntl(other.layers(), F_DUPFD_CLOEXEC, 3)); // of one base, not two
        else
            with.drop_bases = 1;
        Broker broker(image, guest, std::move(with));
        auto worker = broker.start();
        const auto message = worker.receive(ControlType::Failed);
        ASSERT_TRUE(message) << message.error().message();
        EXPECT_TRUE(message->failed.fatal);
        EXPECT_EQ(message->failed.reason, FailureReason::MapDamaged);
        EXPECT_NE(worker.wait(), 0);
    }
}

// Replay, demand and what comes behind it, all of it from several files.
TEST_P(Layers, AWorkingSetIsReplayedOverThem) {
    TestImage image(kLayeredSize);
    std::vector<std::uint32_t> pages;
    for (std::uint32_t page = 0; page < kLayeredPages; page += 5)
        pages.push_back(page);
    auto working_set = image.working_set(pages);
    image.lay_over(3);
    const Guest guest({.size = kLayeredSize});
    auto with = options(protocol::kFlagPrefetch);
    with.working_set = std::move(working_set);
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    const auto message = worker.receive(ControlType::ReplayEnded);
    ASSERT_TRUE(message) << message.error().message();
    EXPECT_EQ(message->replay_ended.state, protocol::ReplayState::Done);
    EXPECT_EQ(wrong_pages(guest), 0U);
}

} // namespace
} // namespace thaw::test
