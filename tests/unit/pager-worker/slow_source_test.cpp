// SPDX-License-Identifier: MIT
// A source that takes its time holds up nobody whose bytes are at hand.

#include "fakes/slow_file.hpp"
#include "harness.hpp"
#include "temporary_directory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

namespace thaw::test {
namespace {

using fakes::SlowFile;
using protocol::ControlType;
using protocol::ReplayReason;
using protocol::ReplayState;
using std::chrono::milliseconds;

constexpr std::uint64_t kSlowSize = 16 << 20;
constexpr std::uint64_t kSlowPages = kSlowSize / kPage;
constexpr std::uint64_t kChunk = 1024; // pages whose hashes stand in one list of memory.map

class SlowSource : public ::testing::TestWithParam<const char*> {
protected:
    BrokerOptions options(std::uint32_t flags = 0) const {
        BrokerOptions options;
        options.engine = GetParam();
        options.flags = flags;
        return options;
    }
    // nullopt: skipped, this machine mounts nothing.
    std::optional<SlowFile> serve(int backing) {
        auto served =
            SlowFile::serve({.backing = backing, .folder = directory_.path(), .direct = true});
        if (served) return std::optional<SlowFile>(std::move(*served));
        skip(served.error().message());
        return std::nullopt;
    }
    static void skip(const std::string& why) { GTEST_SKIP() << why; }
    static Fd open(const SlowFile& file) {
        return Fd(::open(file.path().c_str(), O_RDONLY | O_CLOEXEC));
    }
    static bool waits(const SlowFile& file, std::uint32_t reads) {
        return eventually([&] { return file.gate().waiting == reads; });
    }
    TemporaryDirectory directory_; // goes after what is mounted on it
    HangGuard guard_{20};
};
INSTANTIATE_TEST_SUITE_P(Engines, SlowSource, ::testing::Values(THAW_TEST_ENGINES));

// Touches pages in a thread of its own.
class SlowToucher {
public:
    SlowToucher(const Guest& guest, std::vector<std::uint64_t> pages)
        : thread_([this, &guest, pages = std::move(pages)] {
              for (const std::uint64_t page : pages)
                  wrong_ += TestImage::matches(guest.address(page), page) ? 0 : 1;
              done_ = true;
          }) {}
    ~SlowToucher() { thread_.join(); }
    bool is_done() const { return done_; }
    std::uint64_t wrong() const { return wrong_; }

private:
    std::atomic<bool> done_ = false;
    std::atomic<std::uint64_t> wrong_ = 0;
    std::thread thread_;
};

TEST_P(SlowSource, APageThatTakesLongHoldsUpNoOther) {
    const TestImage image(kSlowSize);
    for (const std::uint32_t flags : {0U, protocol::kFlagUnchecked}) {
        const auto file = serve(image.memory());
        if (!file) return;
        const Guest guest({.size = kSlowSize});
        auto with = options(flags);
        with.memory = open(*file);
        Broker broker(image, guest, std::move(with));
        auto worker = broker.start_ready();
        auto& gate = file->gate();
        gate.first = 700 * kPage;
        gate.end = 702 * kPage;
        gate.closed = true;
        {
            const SlowToucher first(guest, {700});
            const SlowToucher second(guest, {701});
            EXPECT_TRUE(waits(*file, 2)); // beside each other, too
            std::vector<std::uint64_t> others;
            for (std::uint64_t page = 0; page < 300; ++page)
                others.push_back(page);
            const SlowToucher rest(guest, others);
            EXPECT_TRUE(eventually([&] { return rest.is_done(); }));
            EXPECT_EQ(rest.wrong(), 0U);
            EXPECT_FALSE(first.is_done() || second.is_done());
            EXPECT_EQ(broker.state().source_slow, 1U); // no sign of being stuck
            gate.closed = false;
            EXPECT_TRUE(eventually([&] { return first.is_done() && second.is_done(); }));
            EXPECT_EQ(first.wrong() + second.wrong(), 0U);
        }
        EXPECT_TRUE(eventually([&] { return broker.state().source_slow == 0; }));
    }
}

TEST_P(SlowSource, AListOfHashesThatTakesLongHoldsUpItsChunkOnly) {
    const TestImage image(kSlowSize);
    const auto file = serve(image.map());
    if (!file) return;
    const Guest guest({.size = kSlowSize});
    auto with = options();
    with.map = open(*file);
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    EXPECT_TRUE(TestImage::matches(guest.address(kChunk), kChunk)); // its list is known now
    file->gate().closed = true;
    const SlowToucher held(guest, {5});
    EXPECT_TRUE(waits(*file, 1));
    const SlowToucher rest(guest, {kChunk + 1, kChunk + 2, kChunk + 3, 2 * kChunk - 1});
    EXPECT_TRUE(eventually([&] { return rest.is_done(); }));
    EXPECT_FALSE(held.is_done());
    file->gate().closed = false;
    EXPECT_TRUE(eventually([&] { return held.is_done(); }));
    EXPECT_EQ(held.wrong() + rest.wrong(), 0U);
}

TEST_P(SlowSource, AWorkingSetThatTakesLongHoldsUpNobody) {
    const TestImage image(kSlowSize);
    std::vector<std::uint32_t> pages;
    for (std::uint32_t page = 1000; page < 1400; ++page)
        pages.push_back(page);
    const Fd packed = image.working_set(pages);
    const auto file = serve(packed.get());
    if (!file) return;
    const Guest guest({.size = kSlowSize});
    auto with = options(protocol::kFlagPrefetch);
    with.working_set = open(*file);
    Broker broker(image, guest, std::move(with));
    file->gate().closed = true;
    auto worker = broker.start_ready();
    EXPECT_TRUE(waits(*file, 1)); // its table
    const SlowToucher rest(guest, {0, 1, 2, 17, 900, 1000});
    EXPECT_TRUE(eventually([&] { return rest.is_done(); }));
    EXPECT_EQ(rest.wrong(), 0U);
    // Quiesce waits for the read and for nothing behind it.
    broker.memory().request_quiesce(true);
    Broker::attend(worker);
    EXPECT_FALSE(worker.receive(ControlType::Attended, milliseconds(50)));
    file->gate().closed = false;
    auto answer = worker.receive(ControlType::Attended);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->attended.quiesced);
    EXPECT_EQ(broker.counters().replay_pages, 0U);
    broker.memory().request_quiesce(false);
    Broker::attend(worker);
    const auto ended = worker.receive(ControlType::ReplayEnded);
    ASSERT_TRUE(ended) << ended.error().message();
    EXPECT_EQ(ended->replay_ended.state, ReplayState::Done);
    EXPECT_EQ(broker.counters().replay_pages + broker.counters().replay_late, pages.size());
}

// A sector that cannot be read is retried, then treated by policy; what the guest sees is never
// made up.
TEST_P(SlowSource, ABadSectorIsNamedAndNeverMadeUp) {
    const TestImage image(kSlowSize);
    for (const std::uint32_t flags : {0U, protocol::kFlagUnchecked}) {
        const auto file = serve(image.memory());
        if (!file) return;
        const Guest guest({.size = kSlowSize});
        auto with = options(flags);
        with.memory = open(*file);
        Broker broker(image, guest, std::move(with));
        auto worker = broker.start_ready();
        auto& gate = file->gate();
        gate.first = 700 * kPage;
        gate.end = 701 * kPage;
        gate.broken = true;
        {
            const SlowToucher bad(guest, {700});
            const auto message = worker.receive(ControlType::Failed);
            ASSERT_TRUE(message) << message.error().message();
            EXPECT_EQ(message->failed.reason, protocol::FailureReason::SourceRead);
            EXPECT_EQ(message->failed.errno_value, EIO);
            EXPECT_EQ(message->failed.page_offset, 700 * kPage);
            EXPECT_GT(broker.counters().retries, 0U);
            EXPECT_EQ(broker.state().stop_pending, 1U);
            EXPECT_TRUE(TestImage::matches(guest.address(699), 699)); // others are served
            EXPECT_TRUE(TestImage::matches(guest.address(701), 701));
            EXPECT_FALSE(bad.is_done());
            EXPECT_FALSE(broker.memory().is_present(700));
            gate.broken = false;
            worker.kill();
            worker = broker.start_ready();
            EXPECT_TRUE(eventually([&] { return bad.is_done(); }));
            EXPECT_EQ(bad.wrong(), 0U);
        }
    }
}

// Without a working set a cold image is read in file order, as far as the budget goes.
TEST_P(SlowSource, AColdImageIsReadAheadInFileOrder) {
    const TestImage image(kSlowSize);
    const auto file = serve(image.memory());
    if (!file) return;
    const Guest guest({.size = kSlowSize});
    auto with = options();
    with.memory = open(*file);
    Broker broker(image, guest, std::move(with));
    broker.memory().set_prefetch({.enabled = true, .sequential_budget = 4 << 20});
    auto worker = broker.start_ready();
    const auto ended = worker.receive(ControlType::ReplayEnded);
    ASSERT_TRUE(ended) << ended.error().message();
    EXPECT_EQ(ended->replay_ended.state, ReplayState::Stopped);
    EXPECT_EQ(ended->replay_ended.reason, ReplayReason::Budget);
    EXPECT_EQ(
        broker.state().replay_kind, static_cast<std::uint32_t>(protocol::ReplayKind::Sequential)
    );
    EXPECT_LE(broker.counters().bytes_replay, 4U << 20);
    EXPECT_GT(broker.counters().bytes_replay, 3U << 20); // an eighth of the image is zeros
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < 512; ++page)
        wrong += TestImage::is_zero(page) || TestImage::matches(guest.address(page), page) ? 0 : 1;
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(broker.counters().faults, 0U);
    for (std::uint64_t page = 0; page < kSlowPages; ++page)
        wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
    EXPECT_EQ(wrong, 0U);
}

TEST_P(SlowSource, AnImageInMemoryIsNotReadAhead) {
    const TestImage image(kSlowSize);
    const Guest guest({.size = kSlowSize});
    Broker broker(image, guest, options());
    broker.memory().set_prefetch({.enabled = true, .sequential_budget = 4 << 20});
    auto worker = broker.start_ready();
    EXPECT_FALSE(worker.receive(ControlType::ReplayEnded, milliseconds(50)));
    EXPECT_EQ(broker.counters().bytes_replay, 0U);
    EXPECT_TRUE(TestImage::matches(guest.address(3), 3));
}

} // namespace
} // namespace thaw::test
