// SPDX-License-Identifier: MIT
#include "reserve/chunk.hpp"
#include "reserve/directory.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>

namespace thaw::reserve {
namespace {

ChunkFacts sound() {
    return {
        .exists = true,
        .mode = S_IFREG | 0600,
        .links = 1,
        .owned = true,
        .length = kChunkBytes,
        .allocated = kChunkBytes,
        .unwritten = kChunkBytes, // as fallocate leaves it
    };
}

Chunk judged(const ChunkFacts& facts, Backing backing = Backing::Solid) {
    return judge_chunk(3, facts, kChunkBytes, backing);
}

TEST(JudgeChunk, Sound) {
    EXPECT_EQ(
        judged(sound()), (Chunk{
                             .index = 3,
                             .health = ChunkHealth::Healthy,
                             .allocated = kChunkBytes,
                             .releasable = kChunkBytes
                         })
    );
    auto facts = sound();
    facts.allocated += 4096; // an extent block of its own
    EXPECT_EQ(judged(facts).health, ChunkHealth::Healthy);
    EXPECT_EQ(judged(facts).releasable, kChunkBytes);
}

TEST(JudgeChunk, AbsentOrEmptyIsReleased) {
    EXPECT_EQ(judged({}).health, ChunkHealth::Absent);
    auto facts = sound();
    facts.length = 0;
    facts.allocated = 0;
    EXPECT_EQ(judged(facts).health, ChunkHealth::Absent);
    facts.links = 2; // whatever else it is
    EXPECT_EQ(judged(facts).health, ChunkHealth::Absent);
}

TEST(JudgeChunk, BlocksCountNotLength) {
    auto facts = sound();
    facts.allocated = kChunkBytes - 4096;
    EXPECT_EQ(judged(facts).health, ChunkHealth::Sparse);
    EXPECT_EQ(judged(facts).releasable, kChunkBytes - 4096);
    facts.allocated = 0;
    EXPECT_EQ(judged(facts).health, ChunkHealth::Sparse);
    EXPECT_EQ(judged(facts).releasable, 0u);
}

TEST(JudgeChunk, Lengths) {
    auto facts = sound();
    facts.length = 1;
    EXPECT_EQ(judged(facts).health, ChunkHealth::CutShort);
    facts.length = kChunkBytes - 1;
    EXPECT_EQ(judged(facts).health, ChunkHealth::CutShort);
    facts.length = kChunkBytes + 1;
    EXPECT_EQ(judged(facts).health, ChunkHealth::TooLong);
    EXPECT_EQ(judge_chunk(9, sound(), 0, Backing::Solid).health, ChunkHealth::TooLong);
}

TEST(JudgeChunk, WhatIsNoFileOfOurs) {
    auto facts = sound();
    facts.links = 2;
    EXPECT_EQ(judged(facts).health, ChunkHealth::HardLinked);
    EXPECT_EQ(judged(facts).releasable, kChunkBytes); // truncating frees it all the same
    for (const auto& [mode, health] :
         {std::pair<mode_t, ChunkHealth>{S_IFLNK | 0777, ChunkHealth::Symlink},
          {S_IFDIR | 0700, ChunkHealth::NotRegular},
          {S_IFIFO | 0600, ChunkHealth::NotRegular},
          {S_IFBLK | 0600, ChunkHealth::NotRegular}}) {
        facts = sound();
        facts.mode = mode;
        EXPECT_EQ(judged(facts), (Chunk{.index = 3, .health = health}));
    }
    facts = sound();
    facts.owned = false;
    EXPECT_EQ(judged(facts).health, ChunkHealth::Exposed);
    facts = sound();
    facts.mode = S_IFREG | 0644;
    EXPECT_EQ(judged(facts).health, ChunkHealth::Exposed);
}

TEST(JudgeChunk, ExtentsThatFreeNothing) {
    auto facts = sound();
    facts.shared = 4096;
    EXPECT_EQ(judged(facts).health, ChunkHealth::Shared);
    EXPECT_EQ(judged(facts).releasable, kChunkBytes - 4096);
    facts = sound();
    facts.compressed = kChunkBytes;
    EXPECT_EQ(judged(facts).health, ChunkHealth::Compressed);
    EXPECT_EQ(judged(facts).releasable, 0u);
    EXPECT_EQ(judged(sound(), Backing::Thin).health, ChunkHealth::Unwritten);
    EXPECT_EQ(judged(sound(), Backing::Thin).releasable, 0u);
    facts = sound();
    facts.unwritten = 0;
    EXPECT_EQ(judged(facts, Backing::Thin).health, ChunkHealth::Healthy);
}

TEST(ChunkNames, OnlyOurs) {
    EXPECT_EQ(chunk_name(7), "chunk-0007");
    EXPECT_EQ(chunk_index("chunk-0007"), 7u);
    EXPECT_EQ(chunk_index("chunk-8191"), 8191u);
    for (const char* name :
         {"chunk-", "chunk-7", "chunk-00007", "chunk-000x", "chunk-0007.bak", "README",
          "Chunk-0007", ".fresh-0007"})
        EXPECT_FALSE(chunk_index(name)) << name;
    EXPECT_TRUE(is_fresh_name(fresh_name(7)));
    EXPECT_FALSE(is_fresh_name(kFreshSmall));
}

} // namespace
} // namespace thaw::reserve
