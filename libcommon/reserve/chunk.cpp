// SPDX-License-Identifier: MIT
#include "reserve/chunk.hpp"

#include "core/fd.hpp"
#include "reserve/retry.hpp"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace thaw::reserve {

namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::size_t kWriteBytes = std::size_t{256} << 10;
constexpr unsigned kExtentsPerCall = 64;

// The kernel's request ends in a flexible array, which ISO C++ has no member for.
struct alignas(fiemap) ExtentRequest {
    std::array<std::byte, sizeof(fiemap) + kExtentsPerCall * sizeof(fiemap_extent)> bytes{};
    fiemap& header() { return *reinterpret_cast<fiemap*>(bytes.data()); }
};

void count_extent(const fiemap_extent& extent, ChunkFacts& facts) {
    if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0)
        facts.shared += extent.fe_length;
    else if ((extent.fe_flags & FIEMAP_EXTENT_ENCODED) != 0)
        facts.compressed += extent.fe_length;
    else if ((extent.fe_flags & FIEMAP_EXTENT_UNWRITTEN) != 0)
        facts.unwritten += extent.fe_length;
}

// Leaves the counts at zero where the file system has no FIEMAP (tmpfs); any other failure counts:
// what cannot be seen must not pass for sound.
Result<> read_extents(int file, ChunkFacts& facts) {
    std::uint64_t start = 0;
    while (start < facts.length) {
        ExtentRequest request;
        fiemap& map = request.header();
        map.fm_start = start;
        map.fm_length = facts.length - start;
        map.fm_extent_count = kExtentsPerCall;
        if (retry([&] { return ioctl(file, FS_IOC_FIEMAP, &map); }) < 0) {
            if (errno == EOPNOTSUPP || errno == ENOTTY) return {};
            return fail_errno(errno, "fiemap");
        }
        const auto count = std::min(map.fm_mapped_extents, kExtentsPerCall);
        if (count == 0) return {};
        for (unsigned i = 0; i < count; i++)
            count_extent(map.fm_extents[i], facts);
        const auto& last = map.fm_extents[count - 1];
        if ((last.fe_flags & FIEMAP_EXTENT_LAST) != 0) return {};
        start = std::max<std::uint64_t>(start + 1, last.fe_logical + last.fe_length);
    }
    return {};
}

// splitmix64: nothing that compresses or deduplicates, a GiB/s.
class Noise {
public:
    explicit Noise(std::uint64_t seed) : state_(seed) {}
    void fill(std::vector<std::uint64_t>& words) {
        for (auto& word : words) {
            state_ += 0x9e3779b97f4a7c15;
            std::uint64_t z = state_;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            word = z ^ (z >> 31);
        }
    }

private:
    std::uint64_t state_;
};

Result<> write_noise(int file, std::uint64_t length) {
    std::uint64_t seed = 0;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) return fail_errno(errno, "getrandom");
    Noise noise(seed);
    std::vector<std::uint64_t> words(kWriteBytes / sizeof(std::uint64_t));
    std::uint64_t done = 0;
    while (done < length) {
        noise.fill(words);
        const auto piece = std::min<std::uint64_t>(kWriteBytes, length - done);
        const auto written =
            retry([&] { return pwrite(file, words.data(), piece, static_cast<off_t>(done)); });
        if (written < 0) return fail_errno(errno, "write");
        if (written == 0) return fail(EIO, "write: nothing was taken");
        done += static_cast<std::uint64_t>(written);
    }
    return {};
}

ChunkHealth health_of(const ChunkFacts& facts, std::uint64_t planned, Backing backing) {
    if (!facts.exists) return ChunkHealth::Absent;
    if (S_ISLNK(facts.mode)) return ChunkHealth::Symlink;
    if (!S_ISREG(facts.mode)) return ChunkHealth::NotRegular;
    if (facts.length == 0) return ChunkHealth::Absent;
    if (facts.links != 1) return ChunkHealth::HardLinked;
    if (facts.length > planned) return ChunkHealth::TooLong;
    if (facts.length < planned) return ChunkHealth::CutShort;
    if (facts.allocated < facts.length) return ChunkHealth::Sparse;
    if (facts.shared > 0) return ChunkHealth::Shared;
    if (facts.compressed > 0) return ChunkHealth::Compressed;
    if (facts.unwritten > 0 && backing == Backing::Thin) return ChunkHealth::Unwritten;
    if (!facts.owned || (facts.mode & (S_IWGRP | S_IWOTH | S_IRGRP | S_IROTH)) != 0)
        return ChunkHealth::Exposed;
    return ChunkHealth::Healthy;
}

} // namespace

Chunk judge_chunk(unsigned index, const ChunkFacts& facts, std::uint64_t planned, Backing backing) {
    Chunk chunk{.index = index, .health = health_of(facts, planned, backing)};
    if (!facts.exists || !S_ISREG(facts.mode)) return chunk;
    chunk.allocated = facts.allocated;
    // Truncating frees a hard-linked file's blocks too. Blocks beyond the length (the file system's
    // own preallocation) would come back as well, but nobody promised them.
    auto worthless = facts.shared + facts.compressed;
    if (backing == Backing::Thin) worthless += facts.unwritten;
    const auto held = std::min(facts.allocated, facts.length);
    chunk.releasable = held - std::min(held, worthless);
    return chunk;
}

Result<ChunkFacts> look_at_chunk(int directory, const std::string& name) {
    ChunkFacts facts;
    struct stat st{};
    struct stat owner{};
    if (fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT) return facts;
        return fail_errno(errno, "stat {}", name);
    }
    if (fstat(directory, &owner) < 0) return fail_errno(errno, "stat the reserve directory");
    facts.exists = true;
    facts.mode = st.st_mode;
    facts.links = static_cast<unsigned>(st.st_nlink);
    facts.owned = st.st_uid == owner.st_uid;
    facts.length = static_cast<std::uint64_t>(st.st_size);
    facts.allocated = static_cast<std::uint64_t>(st.st_blocks) * kSector;
    if (!S_ISREG(st.st_mode)) return facts;
    const Fd file(retry([&] {
        return openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }));
    if (!file) {
        if (errno == EACCES || errno == EPERM) return facts;
        if (errno == ENOENT) return ChunkFacts{};
        return fail_errno(errno, "open {}", name);
    }
    THAW_CHECK(read_extents(file.get(), facts));
    return facts;
}

Result<> fill_chunk(int file, std::uint64_t length, bool write) {
    if (retry([&] { return fallocate(file, 0, 0, static_cast<off_t>(length)); }) < 0) {
        if (errno != EOPNOTSUPP && errno != ENOSYS) return fail_errno(errno, "fallocate");
        write = true;
    }
    if (write) THAW_CHECK(write_noise(file, length));
    if (retry([&] { return fsync(file); }) < 0) return fail_errno(errno, "fsync");
    return {};
}

} // namespace thaw::reserve
