// SPDX-License-Identifier: MIT
// A durable overlay through the death of nbdkit: SIGKILL in the middle of writes.
#include "core/file.hpp"
#include "nbd_client.hpp"
#include "server.hpp"
#include "unit/support/kills_wanted.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <thread>

namespace thaw::rootfs::test {
namespace {

class Durable : public ::testing::Test {
protected:
    void start() { server_.start({"durable=" + server_.path("overlay")}); }
    Server server_;
};

Bytes content_of(std::uint64_t block, std::uint64_t version) {
    Bytes bytes(kBlock);
    for (std::size_t at = 0; at < kBlock; at += 16) {
        const std::uint64_t number = block + 1;
        std::memcpy(&bytes[at], &number, 8);
        std::memcpy(&bytes[at + 8], &version, 8);
    }
    return bytes;
}

// Of one block: the newest version known to be safe, the newest that was answered, and the newest
// that was sent.
struct Versions {
    std::uint64_t safe = 0;
    std::uint64_t answered = 0;
    std::uint64_t sent = 0;
};

// Writes until the server is gone.
void write_on(
    NbdClient& client, std::uint64_t first, std::uint64_t blocks, std::uint64_t seed,
    std::vector<Versions>& versions
) {
    std::mt19937_64 random(seed);
    for (;;) {
        const std::uint64_t block = first + random() % blocks;
        const std::uint64_t count =
            1 + random() % std::min<std::uint64_t>(8, first + blocks - block);
        Bytes data;
        for (std::uint64_t b = block; b < block + count; ++b) {
            std::ranges::copy(content_of(b, ++versions[b].sent), std::back_inserter(data));
        }
        const bool fua = random() % 16 == 0;
        if (client.write(block * kBlock, data, fua) != 0) return;
        for (std::uint64_t b = block; b < block + count; ++b)
            versions[b].answered = versions[b].sent;
        if (!fua && random() % 16 != 0) continue;
        if (!fua && client.flush() != 0) return;
        // Its own blocks; those of others may have moved on meanwhile.
        for (std::uint64_t b = first; b < first + blocks; ++b)
            versions[b].safe = versions[b].answered;
    }
}

TEST_F(Durable, NothingFlushedIsLostInTheDeathsOfNbdkit) {
    constexpr std::uint64_t kBlocks = 2048;
    const unsigned deaths = thaw::test::kills_wanted(30);
    server_.make_base(kBlocks * kBlock);
    std::vector<Versions> versions(kBlocks);
    std::uint64_t safe = 0;
    std::mt19937_64 random(1);
    for (unsigned death = 0; death <= deaths; ++death) {
        start();
        NbdClient client(server_.nbd_socket());
        Bytes disk(kBlocks * kBlock);
        ASSERT_EQ(client.read(0, disk), 0);
        for (std::uint64_t b = 0; b < kBlocks; ++b) {
            const auto block = std::span(disk).subspan(b * kBlock, kBlock);
            std::uint64_t found = 0;
            if (versions[b].sent > 0) std::memcpy(&found, &block[8], 8);
            if (std::ranges::equal(block, std::span(server_.base()).subspan(b * kBlock, kBlock)))
                found = 0;
            else
                ASSERT_TRUE(std::ranges::equal(block, content_of(b, found))) << "block " << b;
            ASSERT_GE(found, versions[b].safe) << "block " << b << " after death " << death;
            ASSERT_LE(found, versions[b].sent) << "block " << b << " after death " << death;
            safe += versions[b].safe;
            // Nobody need have flushed it: it is what lies there now.
            versions[b].answered = found;
            versions[b].safe = found;
        }
        ASSERT_EQ(client.flush(), 0);
        if (death == deaths) break;
        constexpr std::uint64_t kHalf = kBlocks / 2;
        NbdClient other(server_.nbd_socket());
        std::jthread one([&, seed = random()] { write_on(client, 0, kHalf, seed, versions); });
        std::jthread two([&, seed = random()] { write_on(other, kHalf, kHalf, seed, versions); });
        std::this_thread::sleep_for(std::chrono::milliseconds(5 + random() % 60));
        server_.stop(SIGKILL);
    }
    EXPECT_GT(safe, 1000U) << "little was ever flushed: the test shows nothing";
}

TEST_F(Durable, AnOrderlyEndKeepsWhatNobodyFlushed) {
    server_.make_base(4 * kMiB);
    start();
    {
        NbdClient client(server_.nbd_socket());
        ASSERT_EQ(client.write(0, content_of(0, 5)), 0);
    }
    EXPECT_EQ(server_.stop(SIGTERM), 0);
    start();
    NbdClient client(server_.nbd_socket());
    Bytes now(kBlock);
    ASSERT_EQ(client.read(0, now), 0);
    EXPECT_EQ(now, content_of(0, 5));
}

TEST_F(Durable, IsBoundToItsBaseAndToOneProcess) {
    server_.make_base(4 * kMiB);
    start();
    {
        const NbdClient client(server_.nbd_socket());
    }
    std::string output;
    EXPECT_NE(
        run("nbdkit -U " + server_.path("second.sock") + " " THAW_ROOTFS_PLUGIN " base=" +
                server_.path("base") + " durable=" + server_.path("overlay"),
            &output),
        0
    );
    EXPECT_NE(output.find("in use by another process"), std::string::npos) << output;
    server_.stop(SIGTERM);
    EXPECT_EQ(run("touch -d 2001-01-01 " + server_.path("base")), 0);
    start();
    for (int i = 0; i < 500 && server_.running(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(server_.running());
    EXPECT_NE(server_.log().find("over another base"), std::string::npos) << server_.log();
}

TEST_F(Durable, ADamagedJournalIsNotServed) {
    server_.make_base(4 * kMiB);
    start();
    {
        NbdClient client(server_.nbd_socket());
        for (std::uint64_t block = 0; block < 5; ++block)
            ASSERT_EQ(client.write(block * kBlock, content_of(block, 1), true), 0);
    }
    server_.stop(SIGKILL);
    const auto journal = open_file(server_.path("overlay/journal.0"), O_RDWR);
    ASSERT_TRUE(journal);
    ASSERT_EQ(::pwrite(journal->get(), "!", 1, 2 * kBlock + 45), 1);
    start();
    for (int i = 0; i < 500 && server_.running(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(server_.running());
    EXPECT_NE(server_.log().find("journal is damaged"), std::string::npos) << server_.log();
}

} // namespace
} // namespace thaw::rootfs::test
