// SPDX-License-Identifier: MIT
// Which pages the guest changes, with 2 MiB pages: the kernel protects them whole.

#include "huge_fixture.hpp"
#include "tracking_fixture.hpp"

#include <algorithm>

namespace thaw::test {
namespace {

using protocol::ControlType;
using protocol::TrackState;

class HugeTracking : public HugeTest {
protected:
    BrokerOptions tracked(bool track = true) const {
        BrokerOptions with = options();
        with.track = track;
        return with;
    }
    static void expect_dirty(
        const std::optional<image::PageBitmap>& dirty, const std::vector<std::uint64_t>& huge
    ) {
        ASSERT_TRUE(dirty);
        for (std::uint64_t page = 0; page < dirty->pages(); ++page)
            ASSERT_EQ(dirty->test(page), std::ranges::count(huge, page / kPerHuge) == 1) << page;
    }
};
INSTANTIATE_TEST_SUITE_P(Engines, HugeTracking, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(HugeTracking, WholePagesAreNotedAndOnlyThose) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, tracked());
    auto worker = broker.start_ready();
    expect_tracking(broker, TrackState::Armed);
    for (std::uint64_t huge = 0; huge < kHugePages; ++huge)
        if (huge != 11) static_cast<void>(*guest.at(huge * kPerHuge + 5)); // 11 is not there yet
    const auto faults = broker.counters().faults.load();
    *guest.at(2 * kPerHuge + 400) = 7;    // present and protected
    *guest.at(2 * kPerHuge + 401) = 7;    // let go already
    *guest.at(11 * kPerHuge + 1) = 7;     // loaded by the write
    guest.remove(6 * kPerHuge, kPerHuge); // given back, and not touched again
    guest.remove(9 * kPerHuge, kPerHuge); // and read
    EXPECT_TRUE(guest.is_zero(9 * kPerHuge + 3));
    ASSERT_EQ( // the kernel writes for somebody else
        ::pread(image.memory(), guest.address(13 * kPerHuge), kPage, 0), static_cast<int>(kPage)
    );
    EXPECT_EQ(broker.counters().write_faults, 2U);
    EXPECT_EQ(broker.counters().faults - faults, 4U);
    expect_dirty(take_dirty(broker, worker), {2, 6, 9, 11, 13});
}

TEST_P(HugeTracking, BeginsLaterAndEnds) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, tracked(false));
    auto worker = broker.start_ready();
    for (std::uint64_t huge = 0; huge < kHugePages / 2; ++huge)
        *guest.at(huge * kPerHuge) = huge;
    broker.memory().request_tracking(true);
    Broker::attend(worker);
    expect_tracking(broker, TrackState::Armed);
    for (std::uint64_t huge = 0; huge < kHugePages; ++huge)
        static_cast<void>(*guest.at(huge * kPerHuge));
    *guest.at(3 * kPerHuge) = 9;
    *guest.at(12 * kPerHuge + 17) = 9;
    expect_dirty(take_dirty(broker, worker), {3, 12});
    broker.memory().request_tracking(false);
    Broker::attend(worker);
    expect_tracking(broker, TrackState::Off);
    const auto before = broker.counters().write_faults.load();
    worker.kill(); // nobody is there to let a writer go on, and nobody is needed
    for (std::uint64_t huge = 0; huge < kHugePages; ++huge)
        *guest.at(huge * kPerHuge) = 1;
    EXPECT_EQ(broker.counters().write_faults, before);
}

TEST_P(HugeTracking, NothingIsMissingWhileAllPagesAreLoaded) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, tracked());
    broker.memory().request_populate(true);
    auto worker = broker.start_ready();
    {
        const Mutators mutators(guest, image.pages(), 4);
        EXPECT_TRUE(worker.receive(ControlType::Complete));
    }
    const auto dirty = take_dirty(broker, worker);
    ASSERT_TRUE(dirty);
    EXPECT_EQ(lost_pages(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U);
    EXPECT_EQ(broker.state().tracking, static_cast<std::uint32_t>(TrackState::Armed));
}

TEST_P(HugeTracking, MemoryThatWasReplacedIsNotVouchedFor) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, tracked());
    auto worker = broker.start_ready();
    EXPECT_EQ(wrong_in(guest, 4), 0U);
    ASSERT_TRUE(take_dirty(broker, worker));
    void* const fresh = ::mmap(
        guest.address(4 * kPerHuge), kHuge, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0
    );
    ASSERT_NE(fresh, MAP_FAILED);
    EXPECT_FALSE(take_dirty(broker, worker));
    EXPECT_EQ(broker.state().tracking, static_cast<std::uint32_t>(TrackState::Failed));
}

// Bits and protection outlive each worker, also one that dies while it puts a page in or vouches.
TEST_P(HugeTracking, TrackersKilledAtRandomMoments) {
    std::mt19937_64 random(5);
    const TestImage image(kSize);
    std::uint64_t clean = 0;
    for (unsigned round = 0; round < 10; ++round) {
        const Guest guest(kLayout);
        Broker broker(image, guest, tracked());
        auto worker = broker.start();
        // Not all pages, or soon each one would be dirty.
        Mutators mutators(guest, image.pages() / 2, round);
        for (unsigned kill = 0; kill < 4; ++kill) {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
            for (std::uint64_t huge = kHugePages / 2; huge < kHugePages; ++huge)
                if (random() % 4 == 0) static_cast<void>(*guest.at(huge * kPerHuge));
            if (random() % 3 == 0) {
                broker.memory().request_vouching();
                Broker::attend(worker);
            }
            worker.kill();
            worker = broker.start_ready();
        }
        mutators.stop();
        const auto dirty = take_dirty(broker, worker);
        ASSERT_TRUE(dirty);
        clean += dirty->pages() - dirty->count();
        ASSERT_EQ(
            lost_pages(guest, *dirty, [&](auto page) { return is_of_image(guest, page); }), 0U
        );
    }
    EXPECT_GE(clean, 10 * image.pages() / 2); // what is only read stays clean
}

} // namespace
} // namespace thaw::test
