// SPDX-License-Identifier: MIT
#include "protocol/session_memory.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace thaw::protocol {
namespace {

constexpr std::uint64_t kMemory = 64 << 20;

SessionInfo good_info() {
    SessionInfo info;
    info.session_id = {1, 2, 3};
    info.image_id = {4, 5, 6};
    info.name = "web";
    info.unit = "thaw-firecracker@web.service";
    info.image_name = "debian.12";
    info.memory_size = kMemory;
    info.policy = LossPolicy::Poison;
    info.flags = kFlagPrefetch;
    return info;
}

Fd duplicate(int fd) {
    return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

// A sealed memfd with these bytes at the front.
Fd forged(std::size_t size, const SessionHeader& header, int seals) {
    Fd fd(::memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    EXPECT_EQ(::pwrite(fd.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return fd;
}

constexpr int kSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

SessionHeader header_in(const SessionMemory& memory) {
    SessionHeader header{};
    EXPECT_EQ(::pread(memory.fd(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
    return header;
}

TEST(SessionMemory, TheOtherSideSeesWhatWasMade) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made) << made.error().message();
    auto mapped = SessionMemory::map(duplicate(made->fd()));
    ASSERT_TRUE(mapped) << mapped.error().message();
    EXPECT_EQ(mapped->info().name, "web");
    EXPECT_EQ(mapped->info().unit, "thaw-firecracker@web.service");
    EXPECT_EQ(mapped->info().image_name, "debian.12");
    EXPECT_EQ(mapped->info().session_id, good_info().session_id);
    EXPECT_EQ(mapped->info().image_id, good_info().image_id);
    EXPECT_EQ(mapped->info().memory_size, kMemory);
    EXPECT_EQ(mapped->info().policy, LossPolicy::Poison);
    EXPECT_EQ(mapped->info().flags, kFlagPrefetch);
    EXPECT_EQ(mapped->info().created_ns, made->info().created_ns);
    EXPECT_NE(mapped->info().created_ns, 0U);
    made->counters().faults = 17;
    EXPECT_EQ(mapped->counters().faults, 17U);
    EXPECT_TRUE(mapped->regions()->empty());
    const Region region{.base = 1 << 30, .size = kMemory, .offset = 0, .page_size = 4096};
    ASSERT_TRUE(made->set_regions(std::span(&region, 1)));
    EXPECT_EQ(mapped->regions(), std::vector{region});
    EXPECT_EQ(made->set_regions(std::span(&region, 1)).error().code(), EALREADY);
}

TEST(SessionMemory, CannotBeResizedOrUnsealed) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made);
    EXPECT_NE(::ftruncate(made->fd(), 0), 0);
    EXPECT_NE(::ftruncate(made->fd(), 1 << 30), 0);
    EXPECT_NE(::fcntl(made->fd(), F_ADD_SEALS, F_SEAL_WRITE), 0);
    EXPECT_TRUE(made->populate());
}

TEST(SessionMemory, BadInfoIsRefused) {
    const auto code_of = [](auto change) {
        SessionInfo info = good_info();
        change(info);
        const auto made = SessionMemory::create(info);
        return made ? 0 : made.error().code();
    };
    EXPECT_EQ(code_of([](SessionInfo& i) { i.name = "../x"; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.unit.assign(300, 'x'); }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.image_name = "a/b"; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.memory_size = 0; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.memory_size = 4097; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.memory_size = kMaxMemorySize * 2; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.page_size = 8192; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.flags = 1U << 31; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.policy = LossPolicy{9}; }), EINVAL);
    EXPECT_EQ(code_of([](SessionInfo& i) { i.image_name.clear(); }), 0);
}

TEST(SessionMemory, HostileMemoryIsRefused) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made);
    const SessionHeader good = header_in(*made);
    const std::size_t size = made->size();
    EXPECT_TRUE(SessionMemory::map(forged(size, good, kSeals)));
    EXPECT_FALSE(SessionMemory::map(forged(size, good, F_SEAL_GROW)));
    EXPECT_FALSE(SessionMemory::map(forged(size + 4096, good, kSeals)));
    EXPECT_FALSE(SessionMemory::map(forged(4096, good, kSeals)));
    EXPECT_FALSE(SessionMemory::map(Fd(::open("/dev/zero", O_RDWR | O_CLOEXEC))));
    EXPECT_FALSE(SessionMemory::map(Fd()));
    const auto refuses = [&](auto change) {
        SessionHeader header = good;
        change(header);
        return !SessionMemory::map(forged(size, header, kSeals));
    };
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.magic ^= 1; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.version = 1; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.total_size += 4096; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.memory_size *= 2; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.memory_size = UINT64_MAX - 4095; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.page_size = 0; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.policy = 0; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.flags = 0x80; }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { std::memset(h.name, 'x', sizeof h.name); }));
    EXPECT_TRUE(refuses([](SessionHeader& h) {
        std::memset(h.image_name, 'x', sizeof h.image_name);
    }));
    EXPECT_TRUE(refuses([](SessionHeader& h) { h.unit[0] = 0; }));
}

TEST(SessionMemory, ADamagedRegionTableIsRefused) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made);
    const std::uint32_t count = 1000;
    ASSERT_EQ(::pwrite(made->fd(), &count, sizeof count, kRegionsOffset), 4);
    EXPECT_EQ(made->regions().error().code(), EBADMSG);
    const std::uint32_t one = 1; // a region that is all zero
    ASSERT_EQ(::pwrite(made->fd(), &one, sizeof one, kRegionsOffset), 4);
    EXPECT_EQ(made->regions().error().code(), EBADMSG);
}

TEST(SessionMemory, RemovedBitsAreSetOnce) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made);
    EXPECT_EQ(made->page_count(), kMemory / 4096);
    EXPECT_EQ(made->set_removed(60, 200), 200U);
    EXPECT_EQ(made->set_removed(0, 64), 60U);
    EXPECT_FALSE(made->is_removed(260));
    EXPECT_TRUE(made->is_removed(259));
    EXPECT_TRUE(made->any_removed(259, 100));
    EXPECT_FALSE(made->any_removed(260, 10'000));
    EXPECT_FALSE(made->any_removed(0, 0));
    // Beyond the end nothing happens, whatever the numbers.
    const std::uint64_t last = made->page_count() - 1;
    EXPECT_EQ(made->set_removed(last, UINT64_MAX), 1U);
    EXPECT_EQ(made->set_removed(made->page_count(), 1), 0U);
    EXPECT_EQ(made->set_removed(UINT64_MAX, 1), 0U);
    EXPECT_FALSE(made->is_removed(UINT64_MAX));
    EXPECT_FALSE(made->is_dirty(last));
    EXPECT_EQ(made->set_dirty(last, 5), 1U);
    EXPECT_TRUE(made->is_dirty(last));
    EXPECT_FALSE(made->is_dirty(made->page_count()));
}

TEST(SessionMemory, TheWorkerLockGoesWithItsProcess) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made);
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        auto mapped = SessionMemory::map(duplicate(made->fd()));
        const char ok = mapped && mapped->acquire_worker_lock() ? 'y' : 'n';
        static_cast<void>(!::write(ready[1], &ok, 1));
        ::pause();
        ::_exit(0);
    }
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    EXPECT_EQ(made->worker_lock_holder().value(), child);
    EXPECT_EQ(made->acquire_worker_lock().error().code(), EAGAIN);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(made->worker_lock_holder().value(), std::nullopt);
    EXPECT_TRUE(made->acquire_worker_lock());
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST(SessionMemory, ShowsMessagesThatNobodyApplied) {
    auto memory = SessionMemory::create(good_info()).value();
    EXPECT_FALSE(memory.has_messages());
    auto& message = memory.ring().back().back();
    message.bytes[0] = std::byte{0x12};
    EXPECT_TRUE(memory.has_messages());
    message.bytes[0] = std::byte{0};
    EXPECT_FALSE(memory.has_messages());
}

TEST(CheckRegions, KnowsWhatCanBeServed) {
    const auto verdict = [](std::vector<Region> regions) {
        return static_cast<bool>(check_regions(regions, kMemory));
    };
    constexpr std::uint64_t kHuge = 2 << 20;
    const Region low{.base = 1 << 30, .size = 32 << 20, .offset = 0, .page_size = 4096};
    const Region high{.base = 4UL << 30, .size = 32 << 20, .offset = 32 << 20, .page_size = 4096};
    const auto with = [&](auto change) {
        Region region = low;
        change(region);
        return std::vector{region};
    };
    EXPECT_TRUE(verdict({low, high}));
    EXPECT_TRUE(verdict({high, low}));
    EXPECT_TRUE(verdict(with([](Region& r) { r.page_size = kHuge; })));
    EXPECT_FALSE(verdict({}));
    EXPECT_FALSE(verdict(std::vector(kMaxRegions + 1, low)));
    EXPECT_FALSE(verdict({low, low}));
    EXPECT_FALSE(verdict(with([](Region& r) { r.page_size = 8192; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.page_size = 0; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.size = 0; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.base += 1; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.size = UINT64_MAX & ~4095UL; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.base = UINT64_MAX & ~4095UL; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.base = 0; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.offset = 33 << 20; })));
    EXPECT_FALSE(verdict(with([](Region& r) { r.offset = UINT64_MAX & ~4095UL; })));
    Region same_file = high;
    same_file.offset = 16 << 20;
    EXPECT_FALSE(verdict({low, same_file}));
    Region same_memory = high;
    same_memory.base = low.base + 4096;
    EXPECT_FALSE(verdict({low, same_memory}));
}

TEST(SessionMemory, WhatTheBrokerWantsIsSeenByTheOtherSide) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made);
    auto mapped = SessionMemory::map(duplicate(made->fd()));
    ASSERT_TRUE(mapped);
    EXPECT_TRUE(mapped->prefetch().enabled); // kFlagPrefetch
    const auto serial = mapped->control().serial.load();
    const PrefetchPolicy policy{
        .enabled = false,
        .rate = 1 << 20,
        .replay_budget = 2 << 20,
        .sequential_budget = 3 << 20,
        .memory_pressure = 1000,
        .io_pressure = 2000,
    };
    made->set_prefetch(policy);
    EXPECT_EQ(mapped->prefetch(), policy);
    made->request_populate(true);
    made->request_quiesce(true);
    EXPECT_EQ(mapped->control().populate, 1U);
    EXPECT_EQ(mapped->control().quiesce, 1U);
    made->request_quiesce(false);
    EXPECT_EQ(mapped->control().quiesce, 0U);
    EXPECT_EQ(mapped->control().serial, serial + 4);
}

TEST(SessionMemory, ARecordingKeepsTheOrderOfFirstTouches) {
    auto info = good_info();
    info.flags = kFlagRecording | kFlagPrefetch;
    EXPECT_FALSE(SessionMemory::create(info));
    info.flags = kFlagRecording;
    auto made = SessionMemory::create(info);
    ASSERT_TRUE(made) << made.error().message();
    made->set_prefetch({.enabled = true});
    EXPECT_FALSE(made->prefetch().enabled); // it would spoil the recording
    auto mapped = SessionMemory::map(duplicate(made->fd()));
    ASSERT_TRUE(mapped) << mapped.error().message();
    for (const std::uint64_t page : {5U, 3U, 9U, 3U, 16383U})
        mapped->note_touch(page);
    mapped->note_touch(kMemory / kBitPage); // beyond the memory
    EXPECT_EQ(made->touches(), (std::vector<std::uint32_t>{5, 3, 9, 16383}));
    // What a worker gone mad may write is no more than a wrong order.
    made->state().touches = UINT64_MAX;
    EXPECT_EQ(made->touches().size(), 5U); // and page 0, from the empty rest
    auto plain = SessionMemory::create(good_info());
    plain->note_touch(1);
    EXPECT_TRUE(plain->touches().empty());
    EXPECT_LT(plain->size(), made->size());
}

TEST(SessionMemory, RunsOfMissingPages) {
    auto made = SessionMemory::create(good_info());
    ASSERT_TRUE(made);
    const std::uint64_t pages = kMemory / kBitPage;
    EXPECT_EQ(made->missing_run(0, pages, true), pages);
    EXPECT_EQ(made->missing_run(0, pages, false), 0U);
    EXPECT_EQ(made->set_present(60, 10), 10U);
    EXPECT_EQ(made->set_present(65, 10), 5U);
    made->set_removed(75, 60);
    EXPECT_EQ(made->missing_run(0, pages, true), 60U);
    EXPECT_EQ(made->missing_run(60, pages, false), 75U); // present, then removed: 60..135
    EXPECT_EQ(made->missing_run(60, 7, false), 7U);
    EXPECT_EQ(made->missing_run(135, 100, true), 100U);
    EXPECT_EQ(made->missing_run(pages, 1, true), 0U);
    EXPECT_EQ(made->missing_run(pages - 1, 100, true), 1U);
    EXPECT_TRUE(made->is_present(74));
    EXPECT_FALSE(made->is_present(75));
    EXPECT_EQ(made->set_present(pages - 1, 9), 1U);
    const Region region{.base = 1 << 30, .size = 75 * kBitPage, .offset = 60 * kBitPage};
    EXPECT_TRUE(made->is_covered(region));
    const Region wider{.base = 1 << 30, .size = 76 * kBitPage, .offset = 60 * kBitPage};
    EXPECT_FALSE(made->is_covered(wider));
}

} // namespace
} // namespace thaw::protocol
