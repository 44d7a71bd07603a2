// SPDX-License-Identifier: MIT
// What the cache of remote images fetches, whom it tells, what it keeps.

#include "chunk_fixture.hpp"

#include <csignal>

namespace thaw::pagerd {
namespace {

TEST_F(ChunkTest, IsFetchedOnceForAllWhoWait) {
    make_cache(8);
    ChunkImage& image = open();
    for (unsigned i = 0; i < 25; ++i)
        want(image, user(image), 2);
    ASSERT_TRUE(run_until([&] {
        return std::ranges::all_of(users_, [](const auto& user) { return user->landed[2] == 1; });
    }));
    EXPECT_EQ(gets(2), 1U);
    EXPECT_EQ(cache_->counters().bytes_fetched, kChunkSize);
    EXPECT_EQ(cache_->counters().misses, 25U);
    EXPECT_TRUE(get(image, user(image), 2));
    EXPECT_EQ(cache_->counters().hits, 1U);
    EXPECT_EQ(cache_->counters().fetches, 1U);
    EXPECT_TRUE(run_until([&] { return cache_->counters().fetch_latency.count() == 1; }));
    EXPECT_EQ(cache_->memory_used(), kChunkSize);
    EXPECT_TRUE(get(image, *users_.front(), 5)); // shorter than the others
    EXPECT_EQ(cache_->memory_used(), kChunkSize + image.bytes_of(5));
}

TEST_F(ChunkTest, LetsWaitersGoAsTheirBytesLand) {
    make_cache(8);
    ChunkImage& image = open();
    User& first = user(image);
    User& last = user(image);
    web_->spoil({.kind = "slow", .value = "8388608"}); // half a second for a chunk
    want(image, first, 1, 64);
    want(image, last, 1, kAll);
    ASSERT_TRUE(run_until([&] { return first.landed[1] == 1; }));
    EXPECT_EQ(last.landed[1], 0U);
    const auto ready = image.map().ready(1);
    EXPECT_GE(ready, 64U);
    EXPECT_LT(ready, kAll); // and the chunk is not said to be whole
    ASSERT_TRUE(run_until([&] { return last.landed[1] == 1; }));
    EXPECT_TRUE(is_right(image, 1));
    EXPECT_EQ(gets(1), 1U);
}

TEST_F(ChunkTest, OutlivesTheVmThatAskedFirst) {
    make_cache(8);
    ChunkImage& image = open();
    web_->spoil({.kind = "slow", .value = "8388608"});
    User& gone = user(image);
    want(image, gone, 0);
    ASSERT_TRUE(run_until([&] { return image.map().ready(0) > 0; }));
    cache_->detach(image, gone);
    EXPECT_TRUE(run_until([&] { return image.map().is_whole(0); }));
    EXPECT_EQ(gone.landed[0], 0U);
    EXPECT_TRUE(get(image, user(image), 0));
    EXPECT_EQ(gets(0), 1U);
}

TEST_F(ChunkTest, NeverCountsBytesThatWereNotSealed) {
    make_cache(8);
    ChunkImage& image = open();
    User& reader = user(image);
    // Once: what comes the second time is right.
    web_->spoil({.kind = "corrupt", .count = 1, .after = 1 << 20});
    EXPECT_TRUE(get(image, reader, 0));
    EXPECT_EQ(cache_->counters().corrupt, 1U);
    EXPECT_GE(gets(0), 2U);
    // For good: nobody is told anything but that.
    web_->spoil({.kind = "corrupt", .after = 1 << 20});
    want(image, reader, 1);
    ASSERT_TRUE(run_until([&] { return reader.failed.contains(1); }));
    EXPECT_EQ(reader.failed[1], EBADMSG);
    EXPECT_EQ(reader.landed[1], 0U);
    EXPECT_EQ(image.map().ready(1), 0U);
    EXPECT_EQ(cache_->counters().failures, 1U);
    EXPECT_TRUE(is_right(image, 0)); // others are not concerned
    web_->clear();
    reader.failed.clear();
    EXPECT_TRUE(get(image, reader, 1)) << "nothing has to be restarted";
}

TEST_F(ChunkTest, FailsOnlyThoseWhoWaitForIt) {
    make_cache(8);
    ChunkImage& image = open();
    User& reader = user(image);
    User& other = user(image);
    EXPECT_TRUE(get(image, other, 3));
    web_->spoil({.kind = "status", .value = "500"});
    want(image, reader, 1);
    ASSERT_TRUE(run_until([&] { return reader.failed.contains(1); }));
    EXPECT_EQ(reader.failed[1], EREMOTEIO);
    EXPECT_EQ(gets(1), 4U); // and three times more
    EXPECT_TRUE(other.failed.empty());
    EXPECT_TRUE(get(image, other, 3));
    web_->clear();
    reader.failed.clear();
    EXPECT_TRUE(get(image, reader, 1));
}

// All at once: many VMs, each chunk with another fault of the server in front of it.
TEST_F(ChunkTest, ReachesManyVmsThroughFaultsOfTheServer) {
    make_cache(8);
    ChunkImage& image = open();
    for (unsigned i = 0; i < 25; ++i)
        user(image);
    const fakes::Fault faults[] = {
        {.kind = "stall", .count = 1, .after = 1 << 20},
        {.kind = "reset", .count = 2, .after = 1 << 20},
        {.kind = "status", .count = 3, .value = "500"},
        {.kind = "short", .count = 1, .after = 1 << 20},
        {.kind = "corrupt", .count = 1, .after = 1 << 20},
        {.kind = "silence", .count = 1},
    };
    for (std::uint32_t chunk = 0; chunk < std::size(faults); ++chunk) {
        web_->spoil(faults[chunk]);
        for (const auto& each : users_)
            want(image, *each, chunk);
        ASSERT_TRUE(run_until([&] {
            return std::ranges::all_of(users_, [&](const auto& each) {
                return each->landed[chunk] == 1;
            });
        })) << faults[chunk].kind;
        EXPECT_TRUE(is_right(image, chunk)) << faults[chunk].kind;
        EXPECT_LE(gets(chunk), 4U) << faults[chunk].kind; // not one per VM
    }
    for (const auto& each : users_)
        EXPECT_TRUE(each->failed.empty());
    EXPECT_EQ(cache_->counters().failures, 0U);
    EXPECT_EQ(cache_->counters().bytes_fetched, kSize) << "what was spoiled does not count";
}

TEST_F(ChunkTest, OfAChangedObjectIsAnErrorAndNeverAMix) {
    make_cache(8);
    ChunkImage& image = open();
    User& reader = user(image);
    EXPECT_TRUE(get(image, reader, 0));
    web_->spoil({.kind = "etag", .value = "\"another\""});
    want(image, reader, 1);
    ASSERT_TRUE(run_until([&] { return reader.failed.contains(1); }));
    EXPECT_EQ(reader.failed[1], ESTALE);
    EXPECT_EQ(image.map().ready(1), 0U);
    EXPECT_TRUE(get(image, reader, 0));
}

TEST_F(ChunkTest, IsFetchedAlthoughTheFetcherIsKilled) {
    make_cache(8);
    ChunkImage& image = open();
    User& reader = user(image);
    web_->spoil({.kind = "slow", .value = "8388608"});
    want(image, reader, 4);
    ASSERT_TRUE(run_until([&] { return image.map().ready(4) > 64; }));
    fetchd_->kill(SIGKILL);
    web_->clear();
    ASSERT_TRUE(run_until([&] { return reader.landed[4] == 1; }));
    EXPECT_TRUE(is_right(image, 4));
    EXPECT_EQ(cache_->fetcher_deaths(), 1U);
}

TEST_F(ChunkTest, ComesFromAFileOnASlowDiskAsWell) {
    make_cache(8);
    const std::string path = folder_ / "memory";
    std::ofstream(path, std::ios::binary) << content_;
    RemoteMemory remote;
    remote.file = must(open_file(path, O_RDONLY));
    remote.identity = must(fetch::file_identity(remote.file.get()));
    ChunkImage& image = open(std::move(remote));
    User& reader = user(image);
    for (std::uint32_t chunk = 0; chunk < 6; ++chunk)
        EXPECT_TRUE(get(image, reader, chunk)) << chunk;
    EXPECT_EQ(cache_->counters().bytes_fetched, kSize);
}

TEST_F(ChunkTest, ThatWillBeWantedIsFetchedAhead) {
    make_cache(8);
    ChunkImage& image = open();
    User& reader = user(image);
    cache_->want(image, reader, {.chunk = 0, .pages = 1, .ahead = 2});
    EXPECT_TRUE(run_until([&] { return image.map().is_whole(1) && image.map().is_whole(2); }));
    EXPECT_EQ(image.map().ready(3), 0U);
    EXPECT_EQ(reader.landed.size(), 1U);
}

TEST_F(ChunkTest, OfAnImageThatIsAnotherNowIsRefused) {
    make_cache(8);
    RemoteMemory first = remote(web_->proxied("/memory"));
    RemoteMemory second{.url = first.url, .file = {}, .identity = first.identity};
    second.identity.etag = "\"newer\"";
    open(std::move(first));
    const auto again = cache_->open(image::format_id(id_), std::move(second), index_.get(), kSize);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), ESTALE);
    EXPECT_EQ(again.error().bus_name(), "org.thaw.pager1.Error.ImageMismatch");
}

TEST_F(ChunkTest, IsKeptOverARestartOfTheBroker) {
    make_cache(8);
    RemoteMemory where = remote(web_->proxied("/memory"));
    const Fd description = must(store_remote_memory(where));
    ChunkImage& image = open(std::move(where));
    EXPECT_TRUE(get(image, user(image), 1));
    web_->spoil({.kind = "slow", .value = "4194304"});
    want(image, user(image), 2);
    ASSERT_TRUE(run_until([&] { return image.map().ready(2) > 0; }));
    // What the descriptor store gives back to the next one.
    std::map<FdRole, Fd> stored;
    stored.emplace(FdRole::Chunks, must(image.files()->data.duplicate()));
    stored.emplace(FdRole::ChunkIndex, must(image.files()->index.duplicate()));
    stored.emplace(FdRole::Remote, must(description.duplicate()));
    Fd map(::fcntl(image.map().fd(), F_DUPFD_CLOEXEC, 0));
    stored.emplace(FdRole::ChunkMap, std::move(map));
    users_.clear();
    make_cache(8);
    web_->clear();
    web_->forget();
    ASSERT_TRUE(cache_->adopt(image::format_id(id_), stored));
    EXPECT_TRUE(stored.empty());
    ChunkImage* adopted = cache_->find(image::format_id(id_));
    ASSERT_NE(adopted, nullptr);
    EXPECT_EQ(adopted->map().ready(2), 0U) << "it was not whole";
    User& reader = user(*adopted);
    EXPECT_TRUE(get(*adopted, reader, 1));
    EXPECT_EQ(gets(1), 0U) << "fetched again";
    EXPECT_TRUE(get(*adopted, reader, 2));
    EXPECT_EQ(gets(2), 1U);
}

TEST_F(ChunkTest, WithoutItsDescriptionIsNotTakenOver) {
    make_cache(8);
    std::map<FdRole, Fd> stored;
    stored.emplace(FdRole::Chunks, must(index_.duplicate()));
    const auto adopted = cache_->adopt(image::format_id(id_), stored);
    ASSERT_FALSE(adopted);
    EXPECT_EQ(adopted.error().code(), EBADMSG);
    EXPECT_EQ(cache_->images(), 0U);
}

} // namespace
} // namespace thaw::pagerd
