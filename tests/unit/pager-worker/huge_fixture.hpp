// SPDX-License-Identifier: MIT
#pragma once

// 2 MiB pages. Raises nr_hugepages for the time of a test, under a lock that all such tests share.

#include "core/file.hpp"
#include "core/text.hpp"
#include "harness.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <string>

namespace thaw::test {

inline constexpr std::uint64_t kPerHuge = kHuge / kPage;

// Tests of each engine with a guest of kHugePages pages.
class HugeTest : public ::testing::TestWithParam<const char*> {
protected:
    static constexpr std::uint64_t kHugePages = 16;
    static constexpr std::uint64_t kSize = kHugePages * kHuge;
    static constexpr Guest::Layout kLayout{.size = kSize, .page_size = kHuge, .huge = true};
    static constexpr const char* kCount = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    static constexpr const char* kFree = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

    static std::uint64_t read_number(const char* path) {
        const auto text = read_file(path);
        if (!text) return 0;
        return parse_unsigned(trim(*text)).value_or(0);
    }
    static void write_number(const char* path, std::uint64_t value) {
        const auto fd = open_file(path, O_WRONLY);
        if (fd) static_cast<void>(write_all(fd->get(), std::to_string(value)));
    }
    void SetUp() override {
        auto lock = open_file("/run/lock/thaw-hugepages.lock", O_RDWR | O_CREAT, 0644);
        if (!lock) GTEST_SKIP() << lock.error().message();
        lock_ = std::move(*lock);
        ASSERT_EQ(::flock(lock_.get(), LOCK_EX), 0);
        before_ = read_number(kCount);
        raised_ = true;
        write_number(kCount, before_ + kHugePages);
        if (read_number(kFree) < kHugePages)
            GTEST_SKIP() << "no " << kHugePages << " huge pages to be had on this machine";
    }
    void TearDown() override {
        if (raised_) write_number(kCount, before_);
    }
    BrokerOptions options() const {
        BrokerOptions options;
        options.engine = GetParam();
        return options;
    }
    // How many 4 KiB pages of that huge one are not the image's.
    static std::uint64_t wrong_in(const Guest& guest, std::uint64_t huge) {
        std::uint64_t wrong = 0;
        for (std::uint64_t page = huge * kPerHuge; page < (huge + 1) * kPerHuge; ++page)
            wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
        return wrong;
    }
    HangGuard guard_{60};

private:
    Fd lock_; // the lock goes with it, after TearDown()
    std::uint64_t before_ = 0;
    bool raised_ = false;
};

} // namespace thaw::test
