// SPDX-License-Identifier: MIT
// The log of a durable overlay: cut off, torn, damaged, of another disk.
#include "overlay/journal.hpp"
#include "overlay/journal_format.hpp"
#include "overlay_fixture.hpp"
#include "simulated_file.hpp"

namespace thaw::rootfs::test {
namespace {

using Content = SimulatedFile::Content;
using Logs = std::array<Content, 2>;

constexpr JournalIdentity kIdentity{.disk_size = 1 << 30, .base_tag = 11};

struct Opened {
    std::vector<MapRun> changes;
    Journal journal;
};

class JournalTest : public ::testing::Test {
protected:
    Result<Opened>
    open(const Logs& logs, JournalIdentity identity = kIdentity, bool fresh = false) {
        files_.clear();
        for (const auto& log : logs)
            files_.push_back(std::make_unique<SimulatedFile>(log, power_));
        std::vector<MapRun> changes;
        auto journal = Journal::open(
            {std::make_unique<Handle>(*files_[0]), std::make_unique<Handle>(*files_[1])}, identity,
            fresh,
            [&](const MapRun& change) -> Result<> {
                changes.push_back(change);
                return {};
            }
        );
        if (!journal) return std::unexpected(journal.error());
        return Opened{std::move(changes), std::move(*journal)};
    }
    Logs written() {
        std::mt19937_64 unused;
        return {files_[0]->after_crash(unused), files_[1]->after_crash(unused)};
    }
    static MapRun change(std::uint32_t n) {
        return {.block = n * 10, .count = 3, .location = {.kind = Kind::Disk, .slot = n * 3}};
    }
    // A log of `records` records of one change each, and where each ends.
    Logs log_of(std::uint32_t records) {
        auto opened = must(open({}, kIdentity, true));
        for (std::uint32_t n = 0; n < records; ++n) {
            must(opened.journal.reserve(1));
            const auto one = change(n);
            must(opened.journal.append({&one, 1}));
        }
        return written();
    }
    static std::vector<MapRun> first(std::uint32_t records) {
        std::vector<MapRun> changes;
        for (std::uint32_t n = 0; n < records; ++n)
            changes.push_back(change(n));
        return changes;
    }

    Power power_;
    std::vector<std::unique_ptr<SimulatedFile>> files_;
};

TEST_F(JournalTest, ComesBackAsItWasWritten) {
    const auto logs = log_of(20);
    EXPECT_EQ(must(open(logs)).changes, first(20));
    EXPECT_EQ(must(open(written())).changes, first(20)) << "opened twice";
}

TEST_F(JournalTest, CutOffAnywhereItEndsWithTheLastWholeRecord) {
    const auto logs = log_of(12);
    for (std::size_t length = kBlockSize; length <= 13 * kBlockSize; length += 256) {
        SCOPED_TRACE(length);
        auto cut = logs;
        cut[0].resize(length);
        EXPECT_EQ(must(open(cut)).changes, first((length - kBlockSize) / kBlockSize));
        // The file was longer already, and what was to come is not there.
        auto torn = logs;
        std::fill(
            torn[0].begin() + static_cast<std::ptrdiff_t>(length), torn[0].end(), std::byte{0}
        );
        constexpr std::size_t kRecord = sizeof(format::RecordHead) + sizeof(format::Change);
        const auto whole = (length - kBlockSize + kBlockSize - kRecord) / kBlockSize;
        EXPECT_EQ(must(open(torn)).changes, first(std::min<std::uint32_t>(12, whole)));
    }
}

TEST_F(JournalTest, ATornRecordIsForgottenAndWrittenOver) {
    auto logs = log_of(5);
    logs[0][kBlockSize * 5 + 30] ^= std::byte{1}; // in the last record
    auto opened = must(open(logs));
    EXPECT_EQ(opened.changes, first(4));
    must(opened.journal.reserve(1));
    const auto next = change(77);
    must(opened.journal.append({&next, 1}));
    auto expected = first(4);
    expected.push_back(next);
    EXPECT_EQ(must(open(written())).changes, expected);
}

TEST_F(JournalTest, DamageBeforeTheEndIsRefused) {
    auto logs = log_of(5);
    logs[0][kBlockSize * 3 + 30] ^= std::byte{1};
    EXPECT_EQ(open(logs).error().code(), EBADMSG);
    logs = log_of(5);
    logs[0][20] ^= std::byte{1}; // the header
    EXPECT_EQ(open(logs).error().code(), EBADMSG);
}

TEST_F(JournalTest, BelongsToOneDiskAndOneBase) {
    const auto logs = log_of(1);
    EXPECT_EQ(open(logs, {.disk_size = 1 << 20, .base_tag = 11}).error().code(), ESTALE);
    EXPECT_EQ(open(logs, {.disk_size = 1 << 30, .base_tag = 12}).error().code(), ESTALE);
}

TEST_F(JournalTest, ALongLogIsWrittenAnew) {
    auto opened = must(open({}, kIdentity, true));
    std::uint32_t n = 0;
    for (; !opened.journal.wants_rewrite(); ++n) {
        ASSERT_LT(n, 100'000u);
        const auto one = change(n % 10);
        must(opened.journal.reserve(1));
        must(opened.journal.append({&one, 1}));
    }
    EXPECT_TRUE(must(opened.journal.rewrite(first(10))));
    EXPECT_FALSE(opened.journal.wants_rewrite());
    const auto one = change(10);
    must(opened.journal.append({&one, 1}));
    auto logs = written();
    EXPECT_EQ(must(open(logs)).changes, first(11));
    // The map's own records are no torn tail, whatever comes behind them.
    logs[1].resize(kBlockSize);
    EXPECT_EQ(open(logs).error().code(), EBADMSG);
    // And the old log is no fallback.
    logs[1].assign(logs[1].size(), std::byte{0});
    EXPECT_EQ(open(logs).error().code(), EBADMSG);
}

TEST_F(JournalTest, PowerLostWhileItIsWrittenAnewLeavesOneOfBoth) {
    const auto logs = log_of(3);
    int old_ones = 0;
    int new_ones = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        std::mt19937_64 random(seed);
        auto opened = must(open(logs));
        power_.left = seed % 12;
        static_cast<void>(opened.journal.rewrite(first(9)));
        power_.left = ~std::uint64_t{0};
        const Logs after{files_[0]->after_crash(random), files_[1]->after_crash(random)};
        const auto changes = must(open(after)).changes;
        const bool old_one = changes == first(3);
        ASSERT_TRUE(old_one || changes == first(9)) << seed;
        ++(old_one ? old_ones : new_ones);
    }
    EXPECT_GT(old_ones, 20);
    EXPECT_GT(new_ones, 20);
}

} // namespace
} // namespace thaw::rootfs::test
