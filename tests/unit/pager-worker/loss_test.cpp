// SPDX-License-Identifier: MIT
// Pages that cannot be served: never the wrong bytes, never made-up zeros.

#include "core/kernel_compat.hpp"
#include "harness.hpp"

#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <thread>

namespace thaw::test {
namespace {

using protocol::FailureReason;
using protocol::LossPolicy;
using std::chrono::milliseconds;

constexpr std::uint64_t kLossSize = 4 << 20;

class Loss : public ::testing::TestWithParam<const char*> {
protected:
    BrokerOptions options(LossPolicy policy) const {
        BrokerOptions options;
        options.engine = GetParam();
        options.policy = policy;
        return options;
    }
    HangGuard guard_{60};
};
INSTANTIATE_TEST_SUITE_P(Engines, Loss, ::testing::Values(THAW_TEST_ENGINES));

// A thread that touches a page and may never come back from it; it is left behind at the end, when
// the guest's userfaultfd is closed.
class Toucher {
public:
    Toucher(const Guest& guest, std::uint64_t page)
        : thread_([this, &guest, page] {
              matches_ = TestImage::matches(guest.address(page), page);
              done_ = true;
          }) {}
    ~Toucher() { thread_.join(); }
    bool is_done() const { return done_; }
    bool matches() const { return matches_; }

private:
    std::atomic<bool> done_ = false;
    std::atomic<bool> matches_ = false;
    std::thread thread_;
};

Result<protocol::FailedMessage> next_failure(const WorkerProcess& worker) {
    auto message = worker.receive();
    if (!message) return std::unexpected(std::move(message).error());
    if (message->type != protocol::ControlType::Failed) return fail(EPROTO, "not Failed");
    return message->failed;
}

TEST_P(Loss, DamagedPageStaysParkedUnderStop) {
    const TestImage image(kLossSize);
    const Guest guest({.size = kLossSize});
    image.flip(33);
    Broker broker(image, guest, options(LossPolicy::Stop));
    auto worker = broker.start_ready();
    EXPECT_TRUE(TestImage::matches(guest.address(32), 32));
    const Toucher toucher(guest, 33);
    const auto failure = next_failure(worker);
    ASSERT_TRUE(failure) << failure.error().message();
    EXPECT_EQ(failure->reason, FailureReason::Checksum);
    EXPECT_EQ(failure->page_offset, 33 * kPage);
    EXPECT_FALSE(failure->fatal);
    const auto& state = broker.state();
    EXPECT_EQ(state.failure.reason, static_cast<std::uint32_t>(FailureReason::Checksum));
    EXPECT_EQ(state.failure.page_offset, 33 * kPage);
    EXPECT_EQ(state.stop_pending, 1U);
    EXPECT_EQ(state.phase, static_cast<std::uint32_t>(protocol::WorkerPhase::Failed));
    // Others are served; the wait that is wanted does not look like a worker that is stuck.
    EXPECT_TRUE(TestImage::matches(guest.address(34), 34));
    EXPECT_TRUE(eventually([&] { return state.oldest_fault_ns == 0 && state.source_slow == 0; }));
    std::this_thread::sleep_for(milliseconds(50));
    EXPECT_FALSE(toucher.is_done());
    // A source that has been put right is good enough for the next worker.
    image.flip(33);
    worker.kill();
    worker = broker.start_ready();
    EXPECT_TRUE(eventually([&] { return toucher.is_done(); }));
    EXPECT_TRUE(toucher.matches());
}

TEST_P(Loss, ASourceThatComesBackInTimeIsNoLoss) {
    const TestImage image(kLossSize);
    const Guest guest({.size = kLossSize});
    image.flip(40);
    Broker broker(image, guest, options(LossPolicy::Stop));
    auto worker = broker.start_ready();
    const Toucher toucher(guest, 40);
    EXPECT_TRUE(eventually([&] { return broker.counters().source_errors > 0; }));
    image.flip(40);
    EXPECT_TRUE(eventually([&] { return toucher.is_done(); }));
    EXPECT_TRUE(toucher.matches());
    EXPECT_EQ(broker.state().failure.reason, 0U);
    EXPECT_GT(broker.counters().retries, 0U);
}

bool can_poison(const Guest& guest) {
    return ::ioctl(guest.uffd(), UFFDIO_POISON, nullptr) != 0 && errno != EINVAL;
}

sigjmp_buf g_after_fault;

TEST_P(Loss, DamagedPageIsPoisonedUnderPoison) {
    const TestImage image(kLossSize);
    const Guest guest({.size = kLossSize});
    image.flip(50);
    Broker broker(image, guest, options(LossPolicy::Poison));
    auto worker = broker.start_ready();
    if (!can_poison(guest)) { // before Linux 6.6: as Stop
        const Toucher toucher(guest, 50);
        EXPECT_TRUE(eventually([&] { return broker.state().stop_pending == 1; }));
        EXPECT_FALSE(toucher.is_done());
        EXPECT_TRUE(TestImage::matches(guest.address(51), 51));
        worker.kill();
        image.flip(50);
        worker = broker.start_ready();
        EXPECT_TRUE(eventually([&] { return toucher.is_done() && toucher.matches(); }));
        return;
    }
    struct sigaction action{}, before{};
    action.sa_handler = [](int) { siglongjmp(g_after_fault, 1); };
    ::sigaction(SIGBUS, &action, &before);
    volatile bool bus_error = false;
    if (sigsetjmp(g_after_fault, 1) == 0)
        static_cast<void>(*guest.at(50));
    else
        bus_error = true;
    ::sigaction(SIGBUS, &before, nullptr);
    EXPECT_TRUE(bus_error);
    EXPECT_TRUE(eventually([&] { return broker.state().failure.poisoned == 1; }));
    EXPECT_EQ(broker.state().stop_pending, 0U);
    EXPECT_TRUE(TestImage::matches(guest.address(51), 51));
}

TEST_P(Loss, TruncatedFile) {
    for (const std::uint32_t flags : {0U, protocol::kFlagUnchecked}) {
        const TestImage image(kLossSize);
        const Guest guest({.size = kLossSize});
        auto with = options(LossPolicy::Stop);
        with.flags = flags;
        Broker broker(image, guest, std::move(with));
        auto worker = broker.start_ready();
        EXPECT_TRUE(TestImage::matches(guest.address(0), 0));
        image.truncate(kLossSize / 2 + 100); // the last page is there in part
        auto toucher = std::make_unique<Toucher>(guest, kLossSize / kPage - 1);
        const auto failure = next_failure(worker);
        ASSERT_TRUE(failure) << failure.error().message();
        EXPECT_EQ(failure->reason, FailureReason::SourceTruncated);
        EXPECT_TRUE(TestImage::matches(guest.address(1), 1));
        EXPECT_FALSE(toucher->is_done());
        worker.kill();
        // Lets the thread go: the page becomes one of the guest's own, behind the pager's back.
        image.truncate(kLossSize);
        with = options(LossPolicy::Stop);
        with.with_map = false;
        Broker release(image, guest, std::move(with));
        auto last = release.start_ready();
        toucher.reset();
    }
}

TEST_P(Loss, DamagedMapIsRefused) {
    const TestImage image(kLossSize);
    const Guest guest({.size = kLossSize});
    std::byte byte{0x5a};
    // A page hash: not covered by the header's checksum but by its chunk's.
    ASSERT_EQ(::pwrite(image.map(), &byte, 1, 64 + 8 * 3), 1);
    Broker broker(image, guest, options(LossPolicy::Stop));
    auto worker = broker.start_ready();
    const Toucher toucher(guest, 900);
    const auto failure = next_failure(worker);
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->reason, FailureReason::MapDamaged);
    worker.kill();
    auto with = options(LossPolicy::Stop);
    with.with_map = false;
    Broker release(image, guest, std::move(with));
    auto last = release.start_ready();
    EXPECT_TRUE(eventually([&] { return toucher.is_done(); }));
}

TEST_P(Loss, MapOfAnotherImageIsRefusedAtOnce) {
    const TestImage image(kLossSize);
    const Guest guest({.size = kLossSize});
    std::byte byte{0x77};
    ASSERT_EQ(::pwrite(image.map(), &byte, 1, 16), 1); // the image id
    Broker broker(image, guest, options(LossPolicy::Stop));
    auto worker = broker.start();
    const auto failure = next_failure(worker);
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->reason, FailureReason::MapDamaged);
    EXPECT_TRUE(failure->fatal);
    EXPECT_EQ(worker.wait(), 1);
}

} // namespace
} // namespace thaw::test
