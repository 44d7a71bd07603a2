// SPDX-License-Identifier: MIT
// The decisions of the fault path, by literal values.

#include "cache_belief.hpp"
#include "clock.hpp"
#include "fault_queue.hpp"
#include "fill_decision.hpp"
#include "message_ring.hpp"
#include "region_map.hpp"

#include <gtest/gtest.h>

#include <linux/userfaultfd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

namespace thaw::worker {
namespace {

using protocol::LossPolicy;
using protocol::Region;

constexpr std::uint64_t kHuge = 2 << 20;

TEST(RegionMap, FindsPages) {
    const RegionMap map(std::vector<Region>{
        {.base = 0x4000'0000, .size = 4 * kHuge, .offset = 0x10'0000, .page_size = kHuge},
        {.base = 0x1000'0000, .size = 0x10'0000, .offset = 0, .page_size = 4096},
    });
    EXPECT_EQ(map.find(0x1000'0000), (PageLocation{0x1000'0000, 0, 4096}));
    EXPECT_EQ(map.find(0x1000'1fff), (PageLocation{0x1000'1000, 0x1000, 4096}));
    EXPECT_EQ(map.find(0x100f'ffff), (PageLocation{0x100f'f000, 0xf'f000, 4096}));
    EXPECT_EQ(map.find(0x4020'0001), (PageLocation{0x4020'0000, 0x30'0000, kHuge}));
    EXPECT_EQ(map.find(0x0fff'ffff), std::nullopt);
    EXPECT_EQ(map.find(0x1010'0000), std::nullopt);
    EXPECT_EQ(map.find(0x4080'0000), std::nullopt);
    EXPECT_EQ(map.find(0), std::nullopt);
    EXPECT_EQ(map.find(UINT64_MAX), std::nullopt);
    EXPECT_EQ(map.largest_page(), kHuge);
}

TEST(RegionMap, ClampsRemovals) {
    const RegionMap map(std::vector<Region>{
        {.base = 0x1000'0000, .size = 0x10'0000, .offset = 0, .page_size = 4096},
        {.base = 0x4000'0000, .size = 4 * kHuge, .offset = 0x10'0000, .page_size = kHuge},
    });
    using Ranges = std::vector<BitRange>;
    EXPECT_EQ(map.clamp(0x1000'1000, 0x1000'3000), (Ranges{{1, 2}}));
    EXPECT_EQ(map.clamp(0, UINT64_MAX), (Ranges{{0, 256}, {256, 2048}}));
    EXPECT_EQ(map.clamp(0x0fff'0000, 0x1000'1000), (Ranges{{0, 1}}));
    EXPECT_EQ(map.clamp(0x1000'0800, 0x1000'2800), (Ranges{{1, 1}}));
    EXPECT_EQ(map.clamp(0x4000'0000, 0x4000'0000 + kHuge), (Ranges{{256, 512}}));
    EXPECT_EQ(map.clamp(0x4000'0000, 0x4000'0000 + kHuge - 4096), Ranges{});
    EXPECT_EQ(map.clamp(0x1000'3000, 0x1000'1000), Ranges{});
    EXPECT_EQ(map.clamp(0x2000'0000, 0x3000'0000), Ranges{});
}

TEST(FillDecision, WhatAPageIsFilledWith) {
    EXPECT_EQ(decide_fill({.removed = false, .image_zero = false}), FillKind::Data);
    EXPECT_EQ(decide_fill({.removed = true, .image_zero = false}), FillKind::ZeroPage);
    EXPECT_EQ(decide_fill({.removed = false, .image_zero = true}), FillKind::ZeroPage);
    EXPECT_EQ(decide_fill({.removed = true, .page_size = kHuge}), FillKind::CopyZeros);
    EXPECT_EQ(decide_fill({.image_zero = true, .page_size = kHuge}), FillKind::CopyZeros);
    EXPECT_EQ(decide_fill({.page_size = kHuge}), FillKind::Data);
}

TEST(FillDecision, WhatTheKernelSaid) {
    EXPECT_EQ(judge_fill(0, 4096, 4096), FillOutcome::Done);
    EXPECT_EQ(judge_fill(EAGAIN, 8192, 65536), FillOutcome::Partial);
    EXPECT_EQ(judge_fill(EAGAIN, -EAGAIN, 4096), FillOutcome::Busy);
    EXPECT_EQ(judge_fill(EEXIST, -EEXIST, 4096), FillOutcome::Present);
    EXPECT_EQ(judge_fill(ENOENT, -ENOENT, 4096), FillOutcome::Gone);
    EXPECT_EQ(judge_fill(ESRCH, 0, 4096), FillOutcome::VmmGone);
    EXPECT_EQ(judge_fill(ENOMEM, -ENOMEM, 4096), FillOutcome::NoMemory);
    EXPECT_EQ(judge_fill(ENOSPC, -ENOSPC, kHuge), FillOutcome::NoMemory);
    EXPECT_EQ(judge_fill(EFAULT, -EFAULT, 4096), FillOutcome::SourceFault);
    EXPECT_EQ(judge_fill(EINVAL, 0, 4096), FillOutcome::Broken);
}

TEST(FillDecision, Patience) {
    EXPECT_EQ(park_delay_ns(ParkReason::Busy, 1), 2 * kNsPerUs);
    EXPECT_EQ(park_delay_ns(ParkReason::Busy, 2), 4 * kNsPerUs);
    EXPECT_EQ(park_delay_ns(ParkReason::Busy, 1'000'000), 500 * kNsPerUs);
    EXPECT_EQ(park_delay_ns(ParkReason::Source, 1), 2 * kNsPerMs);
    EXPECT_EQ(park_delay_ns(ParkReason::Source, 3), 32 * kNsPerMs);
    EXPECT_EQ(park_delay_ns(ParkReason::Source, 99), 200 * kNsPerMs);
    EXPECT_EQ(park_delay_ns(ParkReason::Memory, 99), 100 * kNsPerMs);
    EXPECT_FALSE(is_lost(ParkReason::Busy, UINT32_MAX));
    EXPECT_FALSE(is_lost(ParkReason::Source, 3));
    EXPECT_TRUE(is_lost(ParkReason::Source, 4));
    EXPECT_FALSE(is_lost(ParkReason::Memory, 31));
    EXPECT_TRUE(is_lost(ParkReason::Memory, 32));
    EXPECT_EQ(decide_loss(LossPolicy::Poison, true), LossAction::Poison);
    EXPECT_EQ(decide_loss(LossPolicy::Poison, false), LossAction::Park);
    EXPECT_EQ(decide_loss(LossPolicy::Stop, true), LossAction::Park);
}

TEST(FillDecision, AHugePageThatIsThereInNameOnly) {
    PresentStreak streak;
    for (int thread = 0; thread < 1000; ++thread) // one batch: all waited for the same fill
        EXPECT_FALSE(streak.lacks_memory(kHuge, kHuge, 5));
    for (std::uint64_t batch = 6; batch < 21; ++batch)
        EXPECT_FALSE(streak.lacks_memory(kHuge, kHuge, batch)) << batch;
    EXPECT_TRUE(streak.lacks_memory(kHuge, kHuge, 21));
    EXPECT_TRUE(streak.lacks_memory(kHuge, kHuge, 21));
    streak.filled(2 * kHuge);
    EXPECT_TRUE(streak.lacks_memory(kHuge, kHuge, 22));
    streak.filled(kHuge);
    EXPECT_FALSE(streak.lacks_memory(kHuge, kHuge, 23));
    EXPECT_FALSE(streak.lacks_memory(3 * kHuge, kHuge, 24));
    for (std::uint64_t batch = 0; batch < 100; ++batch)
        EXPECT_FALSE(streak.lacks_memory(4096, 4096, batch));
}

TEST(FillDecision, LatencyBuckets) {
    EXPECT_EQ(latency_bucket(0), 0U);
    EXPECT_EQ(latency_bucket(999), 0U);
    EXPECT_EQ(latency_bucket(1'000), 1U);
    EXPECT_EQ(latency_bucket(1'999), 1U);
    EXPECT_EQ(latency_bucket(2'000), 2U);
    EXPECT_EQ(latency_bucket(8'500), 4U);
    EXPECT_EQ(latency_bucket(UINT64_MAX), protocol::kLatencyBuckets - 1);
}

PageLocation page_at(std::uint64_t address) {
    return {.address = address, .offset = address, .page_size = 4096};
}

TEST(FaultQueue, ParkedOnesComeBackFirstAndInTime) {
    FaultQueue queue;
    EXPECT_EQ(queue.next_deadline(), kNever);
    EXPECT_EQ(queue.oldest(), 0U);
    queue.add({.page = page_at(0x1000), .taken_ns = 10});
    queue.add({.page = page_at(0x2000), .taken_ns = 20});
    queue.add({.page = page_at(0x3000), .taken_ns = 30});
    EXPECT_EQ(queue.oldest(), 10U);
    queue.park(*queue.take(100), ParkReason::Busy, 100);
    EXPECT_EQ(queue.oldest(), 10U);
    EXPECT_EQ(queue.next_deadline(), 100 + 2 * kNsPerUs);
    EXPECT_EQ(queue.take(100)->page.address, 0x2000U);
    const auto again = queue.take(queue.next_deadline());
    EXPECT_EQ(again->page.address, 0x1000U);
    EXPECT_EQ(again->attempts, 1U);
    queue.park_pending({.retry_ns = 7'777});
    EXPECT_FALSE(queue.has_pending());
    EXPECT_EQ(queue.parked(), 1U);
    EXPECT_EQ(queue.next_deadline(), 7'777U);
    EXPECT_FALSE(queue.waits_for_source());
    EXPECT_EQ(queue.take(7'776), std::nullopt);
    Fault fault = *queue.take(7'777);
    EXPECT_EQ(fault.page.address, 0x3000U);
    queue.park(fault, ParkReason::Source, 8'000); // another reason: counted from the start
    EXPECT_EQ(queue.next_deadline(), 8'000 + 2 * kNsPerMs);
    EXPECT_TRUE(queue.waits_for_source());
}

class Recorder final : public MessageSink {
public:
    void page_fault(std::uint64_t address, std::uint64_t /*flags*/) override {
        faults.push_back(address);
    }
    void removed(std::uint64_t start, std::uint64_t end) override {
        removals.emplace_back(start, end);
    }
    void other_event(std::uint8_t event) override { others.push_back(event); }
    std::vector<std::uint64_t> faults;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> removals;
    std::vector<std::uint8_t> others;
};

void put_fault(protocol::RingMessage& slot, std::uint64_t address) {
    uffd_msg message{};
    message.event = UFFD_EVENT_PAGEFAULT;
    message.arg.pagefault.address = address;
    std::memcpy(slot.bytes, &message, sizeof message);
}

void put_removal(protocol::RingMessage& slot, std::uint8_t event, std::uint64_t start) {
    uffd_msg message{};
    message.event = event;
    message.arg.remove.start = start;
    message.arg.remove.end = start + 4096;
    std::memcpy(slot.bytes, &message, sizeof message);
}

bool is_clear(const protocol::MessageRing& ring) {
    static const protocol::MessageRing clear{};
    return std::memcmp(&ring, &clear, sizeof ring) == 0;
}

TEST(MessageRing, AppliesWhatWasReadAndClearsIt) {
    auto memory = std::make_unique<protocol::MessageRing>();
    const MessageRing ring(*memory);
    put_fault((*memory)[5][0], 0x1234);
    put_removal((*memory)[5][1], UFFD_EVENT_REMOVE, 0x8000);
    put_removal((*memory)[5][2], UFFD_EVENT_UNMAP, 0x9000);
    put_removal((*memory)[5][3], UFFD_EVENT_REMAP, 0xa000);
    Recorder recorder;
    EXPECT_EQ(ring.apply(5, 4 * 32, recorder), 4U);
    EXPECT_EQ(recorder.faults, std::vector<std::uint64_t>{0x1234});
    EXPECT_EQ(recorder.removals.size(), 2U);
    EXPECT_EQ(recorder.others, std::vector<std::uint8_t>{UFFD_EVENT_REMAP});
    EXPECT_TRUE(is_clear(*memory));
}

TEST(CacheBelief, TakesManyLooksAndMoreAfterASurprise) {
    CacheBelief belief;
    const auto look = [&](std::uint64_t times) {
        for (std::uint64_t i = 0; i < times; ++i)
            belief.looked(true);
        return belief.holds();
    };
    EXPECT_FALSE(look(CacheBelief::kLooks - 1));
    belief.looked(false); // in a row
    EXPECT_FALSE(look(CacheBelief::kLooks - 1));
    EXPECT_TRUE(look(1));
    belief.surprised();
    EXPECT_FALSE(look(2 * CacheBelief::kLooks - 1));
    EXPECT_TRUE(look(1));
    for (int i = 0; i < 60; ++i)
        belief.surprised();
    EXPECT_FALSE(look(CacheBelief::kMostLooks - 1));
    EXPECT_TRUE(look(1));
}

TEST(MessageRing, ReplayLooksAtEverySlotAndDropsFaults) {
    auto memory = std::make_unique<protocol::MessageRing>();
    const MessageRing ring(*memory);
    put_removal((*memory)[63][15], UFFD_EVENT_REMOVE, 0x8000);
    put_fault((*memory)[0][7], 0x1234);
    put_removal((*memory)[31][3], UFFD_EVENT_REMOVE, 0x4000);
    Recorder recorder;
    EXPECT_EQ(ring.replay(recorder), 3U);
    EXPECT_TRUE(recorder.faults.empty());
    EXPECT_EQ(recorder.removals.size(), 2U);
    EXPECT_TRUE(is_clear(*memory));
    EXPECT_EQ(ring.replay(recorder), 0U);
}

} // namespace
} // namespace thaw::worker
