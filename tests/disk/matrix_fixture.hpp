// SPDX-License-Identifier: MIT
#pragma once

// What every case of the disk matrix does: arm, fill, fail, release, succeed.

#include "disk_lab.hpp"
#include "reserve/arm.hpp"
#include "reserve/release.hpp"

#include <gtest/gtest.h>

#include <string>

namespace thaw::test {

inline std::string state_name(reserve::State state) {
    return std::string(reserve::kStateNames.name(state));
}

class DiskMatrix : public testing::Test {
protected:
    void SetUp() override {
        const auto missing = enter_disk_lab();
        if (!missing.empty()) GTEST_SKIP() << missing;
    }

    // Lays every chunk as the daemon does, one at a time.
    static void arm(const reserve::Volume& volume, const reserve::Plan& plan = {});
    static reserve::Measurement
    measured(const reserve::Volume& volume, const reserve::Plan& plan = {});
    static std::string state(const reserve::Volume& volume, const reserve::Plan& plan = {}) {
        return state_name(reserve::judge(measured(volume, plan), false, false));
    }
    // Releases all of it and compares what is reported with what is seen, to the MiB.
    static reserve::ReleaseReport release_and_compare(const Disk& disk);

    // Fill until one byte fails, the probe fails, release, the same probe succeeds, `released`.
    struct Drill {
        Writer writer{};
        int full = ENOSPC;
        bool creates = true; // whether making a file is part of the probe
    };
    static void drill(const Disk& disk, const Drill& how);
};

} // namespace thaw::test
