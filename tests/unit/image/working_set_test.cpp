// SPDX-License-Identifier: MIT
// access.log and working-set: what was written is read, anything else is named for what it is.

#include "core/file.hpp"
#include "image/access_log.hpp"
#include "image/memory_map.hpp"
#include "image/memory_reader.hpp"
#include "image/working_set.hpp"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

namespace thaw::image {
namespace {

constexpr std::uint64_t kPages = 4096; // 16 MiB

Fd memory_file(std::span<const std::byte> bytes) {
    Fd fd(::memfd_create("test", MFD_CLOEXEC));
    EXPECT_TRUE(write_all(fd.get(), bytes));
    return fd;
}

bool zero_in_image(std::uint64_t page) {
    return page % 16 == 3;
}

struct Sample {
    ImageId id{1, 2, 3};
    Fd memory;
    MemoryMap map;
};

Sample sample() {
    std::vector<std::byte> bytes(kPages * kMapPageSize);
    for (std::uint64_t page = 0; page < kPages; ++page)
        if (!zero_in_image(page))
            std::memset(bytes.data() + page * kMapPageSize, static_cast<int>(page % 251 + 1), 4096);
    Fd memory = memory_file(bytes);
    const ImageId id{1, 2, 3};
    const auto map = build_memory_map(memory.get(), id, [](auto, auto) { return true; });
    const Fd file = memory_file(map.value());
    auto loaded = MemoryMap::load(file.get(), id);
    return {.id = id, .memory = std::move(memory), .map = std::move(*loaded)};
}

AccessLog a_log() {
    AccessLog log{.id = {1, 2, 3}, .page_count = kPages, .settled = true, .pages = {}};
    for (std::uint32_t i = 0; i < 700; ++i)
        log.pages.push_back(static_cast<std::uint32_t>((i * 2654435761U) % kPages / 2 * 2));
    std::vector<bool> seen(kPages);
    std::erase_if(log.pages, [&](std::uint32_t page) {
        const bool again = seen[page];
        seen[page] = true;
        return again;
    });
    for (const std::uint32_t page : {3U, 19U, 35U}) // zero in the image
        log.pages.push_back(page);
    return log;
}

TEST(AccessLog, ComesBackAsItWasWritten) {
    const AccessLog log = a_log();
    const Fd file = memory_file(encode_access_log(log));
    const auto loaded = load_access_log(file.get(), log.id, kPages);
    ASSERT_TRUE(loaded) << loaded.error().message();
    EXPECT_EQ(*loaded, log);
}

TEST(AccessLog, EveryDefectHasItsName) {
    const AccessLog log = a_log();
    const auto code = [&](const std::vector<std::byte>& bytes, std::uint64_t pages = kPages) {
        const Fd file = memory_file(bytes);
        const auto loaded = load_access_log(file.get(), log.id, pages);
        return loaded ? 0 : loaded.error().code();
    };
    const auto good = encode_access_log(log);
    EXPECT_EQ(code(good), 0);
    EXPECT_EQ(code(good, kPages - 1), ERANGE);
    for (std::size_t at = 0; at < good.size(); at += 7) { // no byte goes unnoticed
        auto bad = good;
        bad[at] ^= std::byte{4};
        EXPECT_NE(code(bad), 0) << at;
    }
    EXPECT_EQ(code(std::vector(good.begin(), good.end() - 4)), EBADMSG);
    EXPECT_EQ(code(std::vector(good.begin(), good.begin() + 40)), EBADMSG);
    auto other = log;
    other.id[0] = 9;
    EXPECT_EQ(code(encode_access_log(other)), ESTALE);
    other = log;
    other.pages.push_back(kPages);
    EXPECT_EQ(code(encode_access_log(other)), ERANGE);
    other = log;
    other.pages.push_back(other.pages.front());
    EXPECT_EQ(code(encode_access_log(other)), EBADMSG);
    other = log;
    other.page_size = kPageSize2M;
    EXPECT_EQ(code(encode_access_log(other)), EBADMSG);
}

TEST(AccessLog, AMergeKeepsWhatAllHaveSeen) {
    const auto with = [](std::vector<std::uint32_t> pages, bool settled) {
        return AccessLog{.page_count = kPages, .settled = settled, .pages = std::move(pages)};
    };
    const std::vector logs{with({1, 2, 3, 4}, true), with({4, 9, 3, 1}, true)};
    const auto merged = merge_access_logs(logs);
    ASSERT_TRUE(merged);
    EXPECT_EQ(merged->pages, (std::vector<std::uint32_t>{1, 4, 3})); // 0+3, 3+0, 2+2
    EXPECT_EQ(merged->recordings, 2U);
    EXPECT_TRUE(merged->settled);
    EXPECT_FALSE(merge_access_logs(std::vector{with({1}, true), with({1}, false)})->settled);
    auto foreign = with({1}, true);
    foreign.id[3] = 1;
    EXPECT_EQ(merge_access_logs(std::vector{with({1}, true), foreign}).error().code(), EINVAL);
    EXPECT_EQ(merge_access_logs({}).error().code(), EINVAL);
}

class WorkingSet : public ::testing::Test {
protected:
    std::vector<std::byte> packed(const AccessLog& log) const {
        const Fd file(::memfd_create("working-set", MFD_CLOEXEC));
        const auto written =
            write_working_set(file.get(), log, MemoryReader(sample_.memory.get()), sample_.map);
        EXPECT_TRUE(written) << written.error().message();
        std::vector<std::byte> bytes(identify(file.get()).value().size);
        EXPECT_TRUE(pread_exact(file.get(), bytes, 0));
        return bytes;
    }
    int code(const std::vector<std::byte>& bytes, std::uint64_t pages = kPages) const {
        const Fd file = memory_file(bytes);
        const auto loaded = load_working_set(file.get(), sample_.id, pages);
        return loaded ? 0 : loaded.error().code();
    }
    // With a change to its table and the checksum put right.
    int code_after(const std::function<void(WorkingSetTable&)>& change) const {
        auto bytes = packed(a_log());
        const Fd file = memory_file(bytes);
        auto table = load_working_set(file.get(), sample_.id, kPages).value();
        change(table);
        table.header.checksum = working_set_checksum(table);
        std::memcpy(bytes.data(), &table.header, sizeof table.header);
        std::memcpy(
            bytes.data() + sizeof table.header, table.runs.data(),
            std::span(table.runs).size_bytes()
        );
        return code(bytes);
    }
    Sample sample_ = sample();
};

TEST_F(WorkingSet, HoldsEveryPageOfTheLogOnceAndItsBytes) {
    const AccessLog log = a_log();
    const auto bytes = packed(log);
    const Fd file = memory_file(bytes);
    const auto table = load_working_set(file.get(), sample_.id, kPages);
    ASSERT_TRUE(table) << table.error().message();
    std::vector<std::uint32_t> data;
    std::vector<std::uint32_t> zeros;
    for (const auto& run : table->runs)
        for (std::uint32_t i = 0; i < run.pages(); ++i)
            (run.is_zero() ? zeros : data).push_back(run.first_page + i);
    ASSERT_EQ(data.size() + zeros.size(), log.pages.size());
    EXPECT_EQ(table->header.flags, kLogSettled);
    for (const std::uint32_t page : zeros)
        EXPECT_TRUE(zero_in_image(page));
    for (std::size_t i = 0; i < data.size(); ++i) {
        const std::byte* page = bytes.data() + table->header.data_offset + i * kMapPageSize;
        EXPECT_EQ(hash_page(page), sample_.map.page_hash(data[i])) << i;
    }
    // The first segment holds the pages that were touched first.
    std::vector<std::uint32_t> first;
    for (const std::uint32_t page : log.pages)
        if (!zero_in_image(page) && first.size() < kSegmentPages) first.push_back(page);
    std::ranges::sort(first);
    EXPECT_TRUE(std::equal(first.begin(), first.end(), data.begin()));
    EXPECT_EQ(
        table->segments.front(),
        XXH3_64bits(
            bytes.data() + table->header.data_offset, std::size_t{kSegmentPages} * kMapPageSize
        )
    );
}

TEST_F(WorkingSet, HugePagesStayWhole) {
    AccessLog log{.id = sample_.id, .page_size = kPageSize2M, .page_count = kPages, .pages = {}};
    log.pages = {1024, 0};
    const Fd file = memory_file(packed(log));
    const auto table = load_working_set(file.get(), sample_.id, kPages);
    ASSERT_TRUE(table) << table.error().message();
    EXPECT_EQ(
        table->runs, (std::vector<WorkingSetRun>{
                         {.first_page = 1024, .count = 512}, {.first_page = 0, .count = 512}
                     })
    );
}

TEST_F(WorkingSet, EveryDefectHasItsName) {
    const auto good = packed(a_log());
    ASSERT_EQ(code(good), 0);
    EXPECT_EQ(code(good, kPages * 2), ERANGE);
    for (std::size_t at = 0; at < 1024; at += 3) {
        auto bad = good;
        bad[at] ^= std::byte{4};
        EXPECT_NE(code(bad), 0) << at;
    }
    EXPECT_EQ(code(std::vector(good.begin(), good.end() - 4096)), EBADMSG);
    EXPECT_EQ(code(std::vector(good.begin(), good.begin() + 100)), EBADMSG);
    auto foreign = good;
    foreign[16] ^= std::byte{1};
    EXPECT_EQ(code(foreign), ESTALE);
    EXPECT_EQ(code_after([](auto&) {}), 0);
    EXPECT_EQ(code_after([](auto& t) { t.runs[5].first_page = kPages; }), ERANGE);
    EXPECT_EQ(code_after([](auto& t) { t.runs[5].first_page = t.runs[6].first_page; }), EBADMSG);
    EXPECT_EQ(code_after([](auto& t) { t.runs[5].count = 0; }), EBADMSG);
    EXPECT_EQ(code_after([](auto& t) { t.runs[5].count |= kZeroRun; }), EBADMSG);
    EXPECT_EQ(code_after([](auto& t) { t.header.segment_pages = 0; }), EBADMSG);
    EXPECT_EQ(code_after([](auto& t) { t.header.data_offset += 4096; }), EBADMSG);
    EXPECT_EQ(code_after([](auto& t) { t.header.version = 7; }), EPROTONOSUPPORT);
}

TEST_F(WorkingSet, RottenBytesAreNotPacked) {
    const AccessLog log = a_log();
    std::byte byte{};
    const auto at = static_cast<off_t>(log.pages.front() * kMapPageSize + 5);
    ASSERT_EQ(::pread(sample_.memory.get(), &byte, 1, at), 1);
    byte ^= std::byte{1};
    ASSERT_EQ(::pwrite(sample_.memory.get(), &byte, 1, at), 1);
    const Fd file(::memfd_create("working-set", MFD_CLOEXEC));
    const auto written =
        write_working_set(file.get(), log, MemoryReader(sample_.memory.get()), sample_.map);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), EBADMSG);
    EXPECT_FALSE(
        write_working_set(file.get(), AccessLog{}, MemoryReader(sample_.memory.get()), sample_.map)
    );
}

} // namespace
} // namespace thaw::image
