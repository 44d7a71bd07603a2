// SPDX-License-Identifier: MIT
// Budgets of the cache of remote images: what goes when there is no room, and where to.

#include "chunk_fixture.hpp"

#include <sys/stat.h>

namespace thaw::pagerd {
namespace {

TEST_F(ChunkTest, IsGivenBackWhenOthersNeedTheRoom) {
    make_cache(4);
    ChunkImage& image = open();
    User& reader = user(image);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk) {
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
        EXPECT_LE(cache_->memory_used(), 4 * kChunkSize);
        // What was read last stays, in ticks of 8 ms.
        fakes::run_for(*loop, 10 * kUsecPerMsec);
    }
    EXPECT_GE(cache_->counters().evictions, 2U);
    EXPECT_FALSE(image.map().is_whole(0));
    EXPECT_TRUE(image.map().is_whole(5));
    EXPECT_TRUE(get(image, reader, 0)); // fetched again
    EXPECT_EQ(gets(0), 2U);
}

TEST_F(ChunkTest, ThatIsBeingReadStays) {
    make_cache(4);
    ChunkImage& image = open();
    User& reader = user(image);
    EXPECT_TRUE(get(image, reader, 0));
    reader.publish(0);
    for (std::uint32_t chunk = 1; chunk < 6; ++chunk) {
        fakes::run_for(*loop, 10 * kUsecPerMsec);
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
    }
    EXPECT_TRUE(is_right(image, 0)) << "taken from under its reader";
    reader.clear();
}

TEST_F(ChunkTest, IsNotTakenFromUnderAWaiter) {
    make_cache(4);
    ChunkImage& image = open();
    User& slow = user(image);
    want(image, slow, 0);
    ASSERT_TRUE(run_until([&] { return slow.landed[0] == 1; }));
    // It was told, and has not looked yet; all the others come and go.
    User& quick = user(image);
    for (std::uint32_t chunk = 1; chunk < 6; ++chunk) {
        fakes::run_for(*loop, 10 * kUsecPerMsec);
        EXPECT_TRUE(get(image, quick, chunk)) << chunk;
        EXPECT_TRUE(is_right(image, 0)) << "gone before it was read";
    }
}

TEST_F(ChunkTest, OfImagesThatNobodyUsesGoFirst) {
    EXPECT_EQ(
        choose_victims(
            {{.image = 0, .chunk = 1, .last_use = 10, .has_users = true},
             {.image = 1, .chunk = 2, .last_use = 90, .has_users = false},
             {.image = 0, .chunk = 3, .last_use = 5, .has_users = true}},
            2, 100
        )
            .front()
            .chunk,
        2U
    );
    // The clock wraps around.
    const auto oldest = choose_victims(
        {{.chunk = 1, .last_use = 5, .has_users = true},
         {.chunk = 2, .last_use = UINT32_MAX - 5, .has_users = true}},
        1, 10
    );
    EXPECT_EQ(oldest.front().chunk, 2U);
}

TEST_F(ChunkTest, GoesToDiskAndComesBackFromThere) {
    make_cache(4, 8);
    ChunkImage& image = open();
    User& reader = user(image);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk) {
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
        fakes::run_for(*loop, 10 * kUsecPerMsec);
    }
    EXPECT_GE(cache_->counters().spills, 2U);
    EXPECT_EQ(cache_->counters().store_time.count(), cache_->counters().spills);
    EXPECT_GE(cache_->disk_used(), 2 * kChunkSize);
    EXPECT_LE(cache_->memory_used(), 4 * kChunkSize);
    web_->forget();
    EXPECT_FALSE(image.map().is_whole(0));
    EXPECT_TRUE(get(image, reader, 0));
    EXPECT_EQ(cache_->counters().loads, 1U);
    EXPECT_EQ(web_->request_count(), 0U) << "fetched again";
}

TEST_F(ChunkTest, ThatWasDamagedOnDiskIsFetchedAgain) {
    make_cache(4, 8);
    ChunkImage& image = open();
    User& reader = user(image);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk) {
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
        fakes::run_for(*loop, 10 * kUsecPerMsec);
    }
    ASSERT_TRUE(image.map().is_on_disk(0));
    const Fd buffered =
        must(open_file(fmt::format("/proc/self/fd/{}", image.files()->spill.get()), O_RDWR));
    ASSERT_EQ(::pwrite(buffered.get(), "damaged", 7, 9 * 4096), 7);
    ASSERT_EQ(::fsync(buffered.get()), 0);
    web_->forget();
    EXPECT_TRUE(get(image, reader, 0));
    EXPECT_EQ(gets(0), 1U);
    EXPECT_EQ(cache_->counters().loads, 0U);
}

TEST_F(ChunkTest, OnDiskHasABudgetToo) {
    make_cache(4, 1);
    ChunkImage& image = open();
    User& reader = user(image);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk) {
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
        fakes::run_for(*loop, 20 * kUsecPerMsec);
    }
    EXPECT_GE(cache_->counters().evictions_disk, 1U);
    EXPECT_TRUE(run_until([&] { return cache_->disk_used() <= 4 * kChunkSize; }));
}

// Written there as it comes, not only when memory is short.
TEST_F(ChunkTest, IsOnDiskAtOnceWithTheFileBacking) {
    make_cache(8, 8, 0, CacheBacking::File);
    ChunkImage& image = open();
    User& reader = user(image);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk)
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
    EXPECT_TRUE(run_until([&] { return cache_->counters().spills == 6; }));
    EXPECT_EQ(cache_->counters().evictions, 0U);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk) {
        EXPECT_TRUE(image.map().is_on_disk(chunk)) << chunk;
        EXPECT_TRUE(is_right(image, chunk)) << chunk; // and still in memory
    }
    EXPECT_GE(cache_->disk_used(), kSize);
}

// A disk without room costs the tier on it, nothing else.
TEST_F(ChunkTest, IsDroppedWhereTheDiskHasNoRoom) {
    make_cache(4, 8, std::uint64_t{1} << 60);
    ChunkImage& image = open();
    User& reader = user(image);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk) {
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
        fakes::run_for(*loop, 10 * kUsecPerMsec);
    }
    EXPECT_EQ(cache_->counters().spills, 0U);
    EXPECT_EQ(cache_->disk_used(), 0U);
    EXPECT_GE(cache_->counters().evictions, 2U);
    EXPECT_TRUE(get(image, reader, 0));
}

// The disk guardian's level counts: a cache must not be what fills a disk.
TEST_F(ChunkTest, StaysOffADiskThatIsNearlyFull) {
    fakes::FakeGuard guard(connect(), [](const std::string&) {});
    ASSERT_TRUE(run_until([&] { return guard.owns_name(); }));
    guard.set_volume("critical", "pause");
    make_cache(4, 8);
    ChunkImage& image = open();
    User& reader = user(image);
    const auto get_all = [&] {
        for (std::uint32_t chunk = 0; chunk < 6; ++chunk) {
            EXPECT_TRUE(get(image, reader, chunk)) << chunk;
            fakes::run_for(*loop, 10 * kUsecPerMsec);
        }
    };
    ASSERT_TRUE(run_until([&] { return cache_->disk_is_critical(); }));
    get_all();
    EXPECT_EQ(cache_->counters().spills, 0U);
    EXPECT_EQ(cache_->disk_used(), 0U);
    EXPECT_GE(cache_->counters().evictions, 2U);
    // And goes on there by itself.
    guard.set_volume("low", "continue");
    ASSERT_TRUE(run_until([&] { return !cache_->disk_is_critical(); }));
    get_all();
    EXPECT_GE(cache_->counters().spills, 2U);
    EXPECT_GE(cache_->disk_used(), 2 * kChunkSize);
}

TEST(ChunkBudget, FollowsTheBacking) {
    const std::uint64_t gib = std::uint64_t{1} << 30;
    const auto both = chunk_budget({.backing = CacheBacking::Auto, .memory = gib, .disk = 2 * gib});
    EXPECT_EQ(both.memory, 256U);
    EXPECT_EQ(both.disk, 512U);
    const auto memory =
        chunk_budget({.backing = CacheBacking::Memory, .memory = gib, .disk = 2 * gib});
    EXPECT_EQ(memory.disk, 0U);
    const auto file = chunk_budget({.backing = CacheBacking::File, .memory = gib, .disk = 2 * gib});
    EXPECT_EQ(file.memory, kFileWindow / kChunkSize);
    EXPECT_EQ(chunk_budget({.backing = CacheBacking::Auto, .memory = 1, .disk = 0}).memory, 4U);
}

} // namespace
} // namespace thaw::pagerd
