// SPDX-License-Identifier: MIT
#pragma once

// A disk whose reserve is armed, damaged and released again and again, and a look at it that shares
// no code with the library.

#include "disk_lab.hpp"
#include "fault_injection.hpp"
#include "reserve/measure.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace thaw::test {

// 8 + 8 + 4 MiB: every kind of chunk, and quick to lay.
inline constexpr reserve::Plan kSmallPlan{.bytes = 20 * kMiB};

struct Truth {
    unsigned chunks = 0;         // regular, longer than 0
    unsigned torn = 0;           // of these, not as long as planned
    std::uint64_t allocated = 0; // in chunks
    std::uint64_t leftovers = 0; // allocated under other names of the directory
};

class FaultyDisk : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override;
    // As new: no directory, all space free.
    void wipe();
    Truth truth() const;
    // Lays everything, as a daemon that looks again and again would. EBUSY and the like are given
    // some turns.
    void converge_to_armed();
    // What is held for the directory's sake must be gone, but for its small files.
    void expect_released();
    // The library's word against the truth.
    void expect_no_false_armed(const std::string& context);

    std::string directory() const { return *disk_ / reserve::kDirectory; }
    std::unique_ptr<Disk> disk_;
    reserve::Volume volume_;
    std::uint64_t free_before_ = 0;
};

} // namespace thaw::test
