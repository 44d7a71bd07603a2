// SPDX-License-Identifier: MIT
// A durable overlay loses its power at any write, sync or reservation, and is opened again.
#include "overlay_fixture.hpp"
#include "simulated_file.hpp"

#include <optional>

namespace thaw::rootfs::test {
namespace {

constexpr std::uint64_t kBlocks = 200;
constexpr std::uint64_t kCrashDisk = kBlocks * kBlockSize;
constexpr std::uint64_t kSectors = kBlockSize / SimulatedFile::kSector;

// Sectors that say which block and version they are of; version 0 is the base's, 1 zeros.
Bytes content_of(std::uint64_t block, std::uint64_t version) {
    Bytes bytes(kBlockSize);
    if (version == 1) return bytes;
    for (std::uint64_t s = 0; s < kSectors; ++s) {
        const std::array<std::uint64_t, 3> words{block + 1, version, s};
        std::memcpy(bytes.data() + s * SimulatedFile::kSector, words.data(), sizeof words);
    }
    return bytes;
}

Bytes base_content() {
    Bytes bytes;
    for (std::uint64_t block = 0; block < kBlocks; ++block)
        std::ranges::copy(content_of(block, 0), std::back_inserter(bytes));
    return bytes;
}

using Disk = std::array<SimulatedFile::Content, 3>; // blocks, journals

struct Machine {
    Power power;
    std::vector<std::unique_ptr<SimulatedFile>> files;
    std::unique_ptr<Overlay> overlay;

    Result<> boot(const Disk& disk) {
        for (const auto& content : disk)
            files.push_back(std::make_unique<SimulatedFile>(content, power));
        Overlay::Parts parts;
        parts.size = kCrashDisk;
        parts.base = std::make_unique<BytesBase>(base_content());
        parts.disk = std::make_unique<DiskTier>(std::make_unique<Handle>(*files[0]), 8 << 20);
        parts.journal = {std::make_unique<Handle>(*files[1]), std::make_unique<Handle>(*files[2])};
        THAW_TRY(overlay, Overlay::open(std::move(parts)));
        return {};
    }
    Disk lose_power(std::mt19937_64& random) {
        power.left = 0;
        Disk disk;
        for (std::size_t i = 0; i < disk.size(); ++i)
            disk[i] = files[i]->after_crash(random);
        return disk;
    }
};

// What each sector may hold: all versions since the one that was last known to be safe.
class Expectation {
public:
    Expectation() : versions_(kBlocks * kSectors, {0}) {}
    void written(std::uint64_t block, std::uint64_t version) {
        for (std::uint64_t s = 0; s < kSectors; ++s)
            versions_[block * kSectors + s].push_back(version);
    }
    void flushed() {
        for (auto& versions : versions_)
            versions = {versions.back()};
    }
    // The machine is up again: each sector is one of those, and stays it.
    void check(Overlay& overlay) {
        for (std::uint64_t block = 0; block < kBlocks; ++block) {
            Bytes now(kBlockSize);
            must(overlay.read(block * kBlockSize, now));
            for (std::uint64_t s = 0; s < kSectors; ++s) {
                auto& versions = versions_[block * kSectors + s];
                const auto found = std::ranges::find_if(versions, [&](std::uint64_t version) {
                    return is(now, block, s, version);
                });
                ASSERT_NE(found, versions.end()) << "block " << block << " sector " << s;
                versions = {std::uint64_t{*found}};
            }
        }
    }

private:
    static bool
    is(const Bytes& now, std::uint64_t block, std::uint64_t sector, std::uint64_t version) {
        const auto content = content_of(block, version);
        const auto offset = sector * SimulatedFile::kSector;
        return std::memcmp(&content[offset], &now[offset], SimulatedFile::kSector) == 0;
    }
    std::vector<std::vector<std::uint64_t>> versions_;
};

// Writes until the power goes. The return value says whether it has gone.
bool work(
    Machine& machine, Expectation& expected, std::mt19937_64& random, std::uint64_t& version
) {
    auto& overlay = *machine.overlay;
    std::optional<Point> point;
    for (int i = 0; i < 400; ++i) {
        const std::uint64_t block = random() % kBlocks;
        const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(6, kBlocks - block);
        const bool fua = random() % 10 == 0;
        Result<> done;
        switch (random() % 8) {
        case 0:
            done = overlay.flush();
            if (done) expected.flushed();
            break;
        case 1:
            for (std::uint64_t b = 0; b < count; ++b)
                expected.written(block + b, 1);
            done = overlay.zero(block * kBlockSize, count * kBlockSize, fua);
            break;
        case 2: // points change where rewrites go
            if (point)
                point.reset();
            else if (auto taken = overlay.take_point())
                point.emplace(std::move(*taken));
            break;
        default: {
            ++version;
            Bytes data;
            for (std::uint64_t b = 0; b < count; ++b) {
                std::ranges::copy(content_of(block + b, version), std::back_inserter(data));
                expected.written(block + b, version);
            }
            done = overlay.write(block * kBlockSize, data, fua);
            // One commit is for all: FUA keeps what was written before as well.
            if (done && fua) expected.flushed();
        }
        }
        if (!done) {
            EXPECT_EQ(machine.power.left, 0u) << done.error().message();
            return true;
        }
    }
    return false;
}

TEST(Crash, NothingFlushedIsLostAt200Points) {
    int crashes = 0;
    for (std::uint64_t seed = 0; crashes < 200; ++seed) {
        ASSERT_LT(seed, 2000u);
        SCOPED_TRACE(seed);
        std::mt19937_64 random(seed);
        Disk disk;
        Expectation expected;
        std::uint64_t version = 1;
        // Some lives of one overlay: damage that one leaves shows in the next.
        for (int life = 0; life < 4; ++life) {
            Machine machine;
            machine.power.left = random() % (life % 2 == 0 ? 300 : 12);
            const auto booted = machine.boot(disk);
            if (booted)
                expected.check(*machine.overlay);
            else
                ASSERT_EQ(machine.power.left, 0u) << booted.error().message();
            if (HasFatalFailure()) return;
            const bool crashed = !booted || work(machine, expected, random, version);
            crashes += crashed ? 1 : 0;
            disk = machine.lose_power(random);
        }
        Machine last;
        must(last.boot(disk));
        expected.check(*last.overlay);
        if (HasFatalFailure()) return;
    }
}

} // namespace
} // namespace thaw::rootfs::test
