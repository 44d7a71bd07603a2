// SPDX-License-Identifier: MIT
// Remote images: pages come out of the broker's cache when they have landed there, and a chunk may
// be taken away at any time.

#include "harness.hpp"
#include "harness_steps.hpp"
#include "protocol/chunk_map.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>

namespace thaw::test {
namespace {

using protocol::ChunkMap;
using protocol::ControlType;
using protocol::kChunkPages;
using protocol::kChunkSize;
using std::chrono::milliseconds;

constexpr std::uint64_t kChunkedSize = 14 << 20; // the last chunk is half of one
constexpr std::uint64_t kChunkedPages = kChunkedSize / kPage;
constexpr std::uint64_t kChunks = 4;

// The broker's side of the cache.
class Cache {
public:
    explicit Cache(const TestImage& image) : image_(image) {
        must_be(::ftruncate(data_.get(), static_cast<off_t>(image.size())) == 0, "size the cache");
    }
    BrokerOptions options(const char* engine, std::uint32_t flags = 0) const {
        BrokerOptions options;
        options.engine = engine;
        options.flags = flags | protocol::kFlagChunked;
        options.memory = must(protocol::reopen_read_only(data_.get()));
        options.chunk_map = must(protocol::reopen_read_only(map_.fd()));
        return options;
    }
    // Copies pages [from, to) of a chunk and says that all before `to` are there.
    void land(std::uint64_t chunk, std::uint32_t from, std::uint32_t to) {
        std::vector<std::byte> bytes((to - from) * kPage);
        const auto at = static_cast<off_t>(chunk * kChunkSize + from * kPage);
        const auto size = static_cast<ssize_t>(bytes.size());
        must_be(::pread(image_.memory(), bytes.data(), bytes.size(), at) == size, "read the image");
        must_be(::pwrite(data_.get(), bytes.data(), bytes.size(), at) == size, "fill the cache");
        map_.set_ready(chunk, to);
    }
    void land(std::uint64_t chunk) { land(chunk, 0, map_.pages_of(chunk)); }
    bool is_there(std::uint64_t chunk) const { return map_.is_whole(chunk); }
    // As the broker does it; false: it is being read.
    bool take_away(std::uint64_t chunk, const protocol::SessionState& state) {
        map_.set_ready(chunk, 0);
        if (state.used_chunk.load(std::memory_order_seq_cst) == chunk + 1) {
            map_.set_ready(chunk, map_.pages_of(chunk));
            return false;
        }
        must_be(
            ::fallocate(
                data_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(chunk * kChunkSize), static_cast<off_t>(kChunkSize)
            ) == 0,
            "punch a hole"
        );
        return true;
    }

private:
    const TestImage& image_;
    Fd data_{::memfd_create("test-chunks", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    ChunkMap map_ = must(ChunkMap::create(image_.id(), image_.size()));
};

void tell_landed(const WorkerProcess& worker, std::uint32_t chunk) {
    const auto message = protocol::encode(protocol::ChunkLandedMessage{.chunk = chunk});
    must_be(static_cast<bool>(protocol::send_control(worker.channel(), message)), "send Landed");
}

void tell_failed(const WorkerProcess& worker, std::uint32_t chunk, int code) {
    const auto message =
        protocol::encode(protocol::ChunkFailedMessage{.chunk = chunk, .errno_value = code});
    must_be(static_cast<bool>(protocol::send_control(worker.channel(), message)), "send Failed");
}

// Answers what the worker wants until it is destroyed.
class Answers {
public:
    using Answer = std::function<void(const protocol::WantChunkMessage&)>;
    Answers(const WorkerProcess& worker, Answer answer)
        : thread_([this, &worker, answer = std::move(answer)] {
              while (!stop_) {
                  const auto message = worker.receive(milliseconds(20));
                  if (message && message->type == ControlType::WantChunk)
                      answer(message->want_chunk);
                  if (message && message->type == ControlType::Complete) complete_ = true;
              }
          }) {}
    Answers(const Answers&) = delete;
    Answers& operator=(const Answers&) = delete;
    ~Answers() {
        stop_ = true;
        thread_.join();
    }
    bool is_complete() const { return complete_; }

private:
    std::atomic<bool> stop_ = false;
    std::atomic<bool> complete_ = false;
    std::thread thread_;
};

class Chunks : public ::testing::TestWithParam<const char*> {
protected:
    static std::uint64_t wrong_pages(const Guest& guest, std::uint64_t seed) {
        std::vector<std::uint64_t> order(kChunkedPages);
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
        return static_cast<std::uint64_t>(std::ranges::count_if(order, [&](std::uint64_t page) {
            return !TestImage::matches(guest.address(page), page);
        }));
    }
    HangGuard guard_{60};
    TestImage image_{kChunkedSize};
    Cache cache_{image_};
};
INSTANTIATE_TEST_SUITE_P(Engines, Chunks, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(Chunks, ArePagesOnceTheyHaveLanded) {
    const Guest guest({.size = kChunkedSize, .split = 6 << 20});
    Broker broker(image_, guest, cache_.options(GetParam()));
    auto worker = broker.start_ready();
    std::atomic<unsigned> asked = 0;
    const Answers answers(worker, [&](const auto& wanted) {
        ++asked;
        if (!cache_.is_there(wanted.chunk)) cache_.land(wanted.chunk);
        tell_landed(worker, wanted.chunk);
    });
    EXPECT_EQ(wrong_pages(guest, 1), 0U);
    EXPECT_GE(asked, kChunks);
    EXPECT_EQ(broker.counters().source_errors, 0U);
}

TEST_P(Chunks, AreServedWhileTheRestIsStillOnItsWay) {
    const Guest guest({.size = kChunkedSize});
    Broker broker(image_, guest, cache_.options(GetParam()));
    auto worker = broker.start_ready();
    std::thread first([&] { EXPECT_TRUE(TestImage::matches(guest.address(1030), 1030)); });
    auto want = worker.receive(ControlType::WantChunk);
    ASSERT_TRUE(want) << want.error().message();
    EXPECT_EQ(want->want_chunk.chunk, 1U);
    EXPECT_EQ(want->want_chunk.pages, 7U);
    cache_.land(1, 0, 64);
    tell_landed(worker, 1);
    first.join();
    // A page further on waits for its own bytes, and the one after it does not let it go.
    std::atomic<bool> served = false;
    std::thread second([&] {
        EXPECT_TRUE(TestImage::matches(guest.address(1024 + 200), 1024 + 200));
        served = true;
    });
    want = worker.receive(ControlType::WantChunk);
    ASSERT_TRUE(want) << want.error().message();
    EXPECT_EQ(want->want_chunk.pages, 201U);
    cache_.land(1, 64, 200);
    tell_landed(worker, 1);
    EXPECT_FALSE(eventually([&] { return served.load(); }, milliseconds(50)));
    cache_.land(1, 200, kChunkPages);
    tell_landed(worker, 1);
    second.join();
}

// Read in long pieces, as Complete does, so that a chunk is often taken in the middle of one.
TEST_P(Chunks, MayBeTakenAwayWhileTheyAreRead) {
    std::mutex lock; // of the broker's side, which is one thread in truth
    std::uint64_t taken = 0;
    std::uint64_t refused = 0;
    for (unsigned round = 0; round < 4; ++round) {
        const Guest guest({.size = kChunkedSize});
        Broker broker(image_, guest, cache_.options(GetParam()));
        broker.memory().request_populate(true);
        std::atomic<bool> stop = false;
        auto worker = broker.start_ready();
        const Answers answers(worker, [&](const auto& wanted) {
            const std::scoped_lock hold(lock);
            if (!cache_.is_there(wanted.chunk)) cache_.land(wanted.chunk);
            tell_landed(worker, wanted.chunk);
        });
        std::thread thief([&] {
            std::mt19937 random(round);
            while (!stop) {
                const std::scoped_lock hold(lock);
                const std::uint64_t used = broker.state().used_chunk.load();
                if (used == 0) continue;
                const std::uint64_t chunk = random() % 8 == 0 ? random() % kChunks : used - 1;
                if (!cache_.is_there(chunk)) continue;
                (cache_.take_away(chunk, broker.state()) ? taken : refused) += 1;
            }
        });
        EXPECT_EQ(wrong_pages(guest, round), 0U);
        EXPECT_TRUE(eventually([&] { return answers.is_complete(); }));
        stop = true;
        thief.join();
        // Not a single read of a hole: it would not have been what was sealed.
        EXPECT_EQ(broker.counters().source_errors, 0U);
    }
    EXPECT_GT(taken + refused, 0U);
}

TEST_P(Chunks, AreAskedForAgainWhenTheAnswerIsLost) {
    const Guest guest({.size = kChunkedSize});
    Broker broker(image_, guest, cache_.options(GetParam()));
    auto worker = broker.start_ready();
    std::thread toucher([&] { EXPECT_TRUE(TestImage::matches(guest.address(5), 5)); });
    ASSERT_TRUE(worker.receive(ControlType::WantChunk));
    cache_.land(0); // and nobody says so: found out when it would be asked for again
    toucher.join();
    EXPECT_EQ(broker.counters().source_errors, 0U);
    std::thread other([&] { EXPECT_TRUE(TestImage::matches(guest.address(1024), 1024)); });
    ASSERT_TRUE(worker.receive(ControlType::WantChunk));
    ASSERT_TRUE(worker.receive(ControlType::WantChunk)) << "asked once only";
    cache_.land(1);
    tell_landed(worker, 1);
    other.join();
}

TEST_P(Chunks, ThatFailedAreTriedAgainAndGivenUpByPolicy) {
    const Guest guest({.size = kChunkedSize});
    Broker broker(image_, guest, cache_.options(GetParam()));
    auto worker = broker.start_ready();
    std::thread toucher([&] { EXPECT_TRUE(TestImage::matches(guest.address(5), 5)); });
    ASSERT_TRUE(worker.receive(ControlType::WantChunk));
    tell_failed(worker, 0, EHOSTUNREACH);
    ASSERT_TRUE(worker.receive(ControlType::WantChunk));
    cache_.land(0);
    tell_landed(worker, 0);
    toucher.join();
    EXPECT_EQ(broker.counters().source_errors, 1U);
    // One that never comes; the others go on being served.
    std::thread lost([&] { EXPECT_TRUE(TestImage::matches(guest.address(1024), 1024)); });
    std::optional<protocol::FailedMessage> told;
    while (!told) {
        const auto message = worker.receive();
        ASSERT_TRUE(message) << message.error().message();
        if (message->type == ControlType::WantChunk) tell_failed(worker, 1, EBADMSG);
        if (message->type == ControlType::Failed) told = message->failed;
    }
    EXPECT_EQ(told->reason, protocol::FailureReason::Checksum);
    EXPECT_EQ(told->page_offset, kChunkSize);
    EXPECT_TRUE(TestImage::matches(guest.address(6), 6));
    EXPECT_EQ(broker.state().stop_pending, 1U);
    worker.kill();
    // Never a page that was made up: it is still missing. A broker would stop the VM now.
    cache_.land(1);
    auto successor = broker.start_ready();
    lost.join();
}

TEST_P(Chunks, AreAllFetchedByComplete) {
    const Guest guest({.size = kChunkedSize, .split = 6 << 20});
    Broker broker(image_, guest, cache_.options(GetParam()));
    broker.memory().request_populate(true);
    auto worker = broker.start_ready();
    {
        const Answers answers(worker, [&](const auto& wanted) {
            if (!cache_.is_there(wanted.chunk)) cache_.land(wanted.chunk);
            tell_landed(worker, wanted.chunk);
        });
        EXPECT_TRUE(eventually([&] { return answers.is_complete(); }));
    }
    worker.kill();
    guest.unregister();
    EXPECT_EQ(wrong_pages(guest, 2), 0U);
}

TEST_P(Chunks, AreWantedAgainByTheNextWorker) {
    const Guest guest({.size = kChunkedSize});
    Broker broker(image_, guest, cache_.options(GetParam()));
    auto worker = broker.start_ready();
    std::thread toucher([&] { EXPECT_TRUE(TestImage::matches(guest.address(5), 5)); });
    ASSERT_TRUE(worker.receive(ControlType::WantChunk));
    worker.kill();
    auto successor = broker.start_ready();
    ASSERT_TRUE(successor.receive(ControlType::WantChunk));
    cache_.land(0);
    tell_landed(successor, 0);
    toucher.join();
}

TEST_P(Chunks, OfAnotherImageAreRefused) {
    const TestImage other(kChunkedSize * 2);
    const Cache foreign(other);
    const Guest guest({.size = kChunkedSize});
    auto options = cache_.options(GetParam());
    options.chunk_map = foreign.options(GetParam()).chunk_map.duplicate().value();
    Broker broker(image_, guest, std::move(options));
    auto worker = broker.start();
    const auto message = worker.receive(ControlType::Failed);
    ASSERT_TRUE(message) << message.error().message();
    EXPECT_TRUE(message->failed.fatal);
    EXPECT_EQ(message->failed.reason, protocol::FailureReason::SessionInvalid);
}

} // namespace
} // namespace thaw::test
