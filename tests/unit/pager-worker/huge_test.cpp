// SPDX-License-Identifier: MIT
// Faults, removals and deaths with 2 MiB pages.

#include "huge_fixture.hpp"

#include <atomic>
#include <random>
#include <thread>

namespace thaw::test {
namespace {

class Huge : public HugeTest {};
INSTANTIATE_TEST_SUITE_P(Engines, Huge, ::testing::Values(THAW_TEST_ENGINES));

// A difference knows 4 KiB pages: a page of the mapping is read from several files.
TEST_P(Huge, LayersMeetInsideOfAPage) {
    TestImage image(kSize);
    image.lay_over(3);
    const Guest guest(kLayout);
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < image.pages(); ++page)
        wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
    EXPECT_EQ(wrong, 0U);
}

TEST_P(Huge, WholePagesAreServed) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < image.pages(); ++page)
        wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(broker.counters().faults, kHugePages);
    EXPECT_TRUE(eventually([&] { return broker.counters().pages_copied == image.pages(); }));
}

TEST_P(Huge, RemovedPagesComeBackAsZeros) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    EXPECT_TRUE(TestImage::matches(guest.address(kPerHuge), kPerHuge));
    guest.remove(kPerHuge, 2 * kPerHuge); // the second page is present, the third never was
    std::uint64_t not_zero = 0;
    for (std::uint64_t page = kPerHuge; page < 3 * kPerHuge; ++page)
        not_zero += guest.is_zero(page) ? 0 : 1;
    EXPECT_EQ(not_zero, 0U);
    EXPECT_TRUE(TestImage::matches(guest.address(0), 0));
    EXPECT_TRUE(TestImage::matches(guest.address(3 * kPerHuge), 3 * kPerHuge));
    EXPECT_EQ(broker.counters().pages_removed, 2 * kPerHuge);
    EXPECT_TRUE(eventually([&] { return broker.counters().pages_rezero == 2 * kPerHuge; }));
}

TEST_P(Huge, WorkersKilledAtRandomMoments) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    std::atomic<bool> stop = false;
    std::atomic<std::uint64_t> wrong = 0;
    std::thread thread([&] {
        std::vector<bool> removed(kHugePages, false);
        std::mt19937_64 random(5);
        while (!stop) {
            const std::uint64_t huge = random() % kHugePages;
            const std::uint64_t page = huge * kPerHuge + random() % kPerHuge;
            if (random() % 3 == 0) {
                guest.remove(huge * kPerHuge, kPerHuge);
                removed[huge] = true;
            }
            const bool right =
                removed[huge] ? guest.is_zero(page) : TestImage::matches(guest.address(page), page);
            wrong += right ? 0 : 1;
        }
    });
    std::mt19937_64 random(6);
    for (int kill = 0; kill < 40; ++kill) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
        worker.kill();
        worker = broker.start();
        if (!broker.is_ready(worker)) break;
    }
    stop = true;
    thread.join();
    EXPECT_EQ(wrong, 0U);
}

// A pool that runs dry while a guest faults. The kernel says EEXIST then.
TEST_P(Huge, AnEmptyPoolIsWaitedFor) {
    const TestImage image(kSize);
    const Guest guest(kLayout);
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    const long count = fakes::HugePages::size();
    fakes::HugePages::resize(count - static_cast<long>(kHugePages));
    std::thread thread([&] { EXPECT_TRUE(TestImage::matches(guest.address(7), 7)); });
    EXPECT_TRUE(eventually([&] { return broker.counters().retries > 2; }));
    fakes::HugePages::resize(count);
    thread.join();
    EXPECT_EQ(broker.state().failure.reason, 0U);
}

} // namespace
} // namespace thaw::test
