// SPDX-License-Identifier: MIT
#pragma once

// 2 MiB pages.

#include "fakes/huge_pages.hpp"
#include "harness.hpp"

#include <string>

namespace thaw::test {

inline constexpr std::uint64_t kPerHuge = kHuge / kPage;

// Tests of each engine with a guest of kHugePages pages.
class HugeTest : public ::testing::TestWithParam<const char*> {
protected:
    static constexpr std::uint64_t kHugePages = 16;
    static constexpr std::uint64_t kSize = kHugePages * kHuge;
    static constexpr Guest::Layout kLayout{.size = kSize, .page_size = kHuge, .huge = true};
    void SetUp() override {
        if (!pages_.reason().empty()) GTEST_SKIP() << pages_.reason();
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
    fakes::HugePages pages_{kHugePages};
};

} // namespace thaw::test
