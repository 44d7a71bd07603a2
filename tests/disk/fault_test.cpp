// SPDX-License-Identifier: MIT
// Each system call of arming, healing, measuring and releasing fails in turn, once or for good,
// with each error a full or broken disk gives. What must hold: no false "armed", nothing left
// behind, a release that frees what can be freed, and the right state again as soon as the fault is
// gone.
#include "core/error.hpp"
#include "fault_fixture.hpp"
#include "reserve/arm.hpp"
#include "reserve/release.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <optional>

namespace thaw::test {
namespace {

constexpr std::array<int, 5> kErrors{ENOSPC, EIO, EROFS, EDQUOT, EINTR};
// Where a signal can interrupt the kernel at work.
constexpr std::uint32_t kInterruptible = bit(Call::Open) | bit(Call::Fallocate) | bit(Call::Fsync) |
                                         bit(Call::Write) | bit(Call::Flock) | bit(Call::Statvfs) |
                                         bit(Call::Rename) | bit(Call::Mkdir);
constexpr unsigned kNever = 400; // no operation makes so many calls of a kind

class FaultyReserve : public FaultyDisk {
protected:
    static std::string named(Call call, int error, unsigned nth) {
        return fmt::format("{} {} fails with {}", call_name(call), nth, strerrorname_np(error));
    }
    // For every call, error and turn: prepare(), then work() under the fault, then check().
    void every_fault(
        const std::function<void()>& prepare, const std::function<void()>& work,
        const std::function<void(Call, int, const std::string&)>& check
    ) {
        unsigned faults = 0;
        for (unsigned call = 0; call < kCalls; call++)
            for (const int error : kErrors) {
                for (unsigned nth = 1;; nth++) {
                    ASSERT_LT(nth, kNever);
                    prepare();
                    const auto context = named(Call(call), error, nth);
                    SCOPED_TRACE(context);
                    {
                        const Injecting injecting(
                            {.calls = bit(Call(call)), .nth = nth, .error = error}
                        );
                        work();
                        if (!injecting.hit()) break;
                    }
                    faults++;
                    check(Call(call), error, context);
                    if (HasFailure()) return;
                }
            }
        RecordProperty("faults", static_cast<int>(faults));
        EXPECT_GT(faults, 50u);
    }
    void lay_all() {
        for (laid_ = 0;; laid_++) {
            const auto laid = reserve::lay_next_chunk(volume_, kSmallPlan);
            failed_ = !laid;
            if (!laid || !*laid) return;
        }
    }
    std::string chunk(unsigned index) const {
        return fmt::format("{}/chunk-{:04}", directory(), index);
    }
    unsigned laid_ = 0;
    bool failed_ = false;
};

TEST_P(FaultyReserve, Arming) {
    every_fault(
        [&] { wipe(); }, [&] { lay_all(); },
        [&](Call call, int error, const std::string& context) {
            expect_no_false_armed(context);
            // What failed took nothing with it, and what is there is whole.
            EXPECT_EQ(truth().torn, 0u);
            EXPECT_EQ(truth().chunks, laid_);
            EXPECT_EQ(truth().leftovers, 0u);
            if (error == EINTR && (bit(call) & kInterruptible) != 0) {
                EXPECT_FALSE(failed_);
            }
            converge_to_armed();
        }
    );
}

TEST_P(FaultyReserve, Rearming) {
    every_fault(
        [&] {
            wipe();
            converge_to_armed();
            ASSERT_EQ(unlink(chunk(1).c_str()), 0);
            ASSERT_EQ(truncate(chunk(2).c_str(), 0), 0);
        },
        [&] { lay_all(); },
        [&](Call, int, const std::string& context) {
            expect_no_false_armed(context);
            EXPECT_GE(truth().chunks, 1u); // the one that was there
            converge_to_armed();
        }
    );
}

TEST_P(FaultyReserve, Healing) {
    every_fault(
        [&] {
            wipe();
            converge_to_armed();
            ASSERT_EQ(truncate(chunk(0).c_str(), 4096), 0);
            ASSERT_EQ(unlink(chunk(1).c_str()), 0);
            ASSERT_EQ(symlink("/etc/passwd", chunk(1).c_str()), 0);
            ASSERT_EQ(chmod(chunk(2).c_str(), 0666), 0);
            ASSERT_EQ(unlink((directory() + "/README").c_str()), 0);
        },
        [&] { (void)reserve::heal(volume_, kSmallPlan); },
        [&](Call, int, const std::string& context) {
            expect_no_false_armed(context);
            converge_to_armed();
        }
    );
}

TEST_P(FaultyReserve, MeasuringNeverCallsABrokenReserveArmed) {
    wipe();
    converge_to_armed();
    if (std::string_view(GetParam()) == "ext4") {
        ASSERT_EQ(truncate(chunk(1).c_str(), 0), 0);
        ASSERT_EQ(truncate(chunk(1).c_str(), reserve::kChunkBytes), 0);
    } else {
        // Only its extents tell that it is shared.
        run({"dd", "if=/dev/urandom", "of=" + chunk(1), "bs=1M", "count=8", "conv=notrunc,fsync"});
        run({"cp", "--reflink=always", chunk(1), directory() + "/copy"});
        disk_->sync();
    }
    std::optional<reserve::State> state;
    every_fault(
        [] {},
        [&] {
            const auto measured = reserve::measure(volume_, kSmallPlan);
            state.reset();
            if (measured) state = reserve::judge(*measured, false, false);
        },
        [&](Call, int, const std::string&) {
            if (state) {
                EXPECT_EQ(*state, reserve::State::Degraded);
            }
        }
    );
}

TEST_P(FaultyReserve, Releasing) {
    std::optional<reserve::ReleaseReport> report;
    every_fault(
        [&] {
            wipe();
            converge_to_armed();
        },
        [&] {
            auto released = reserve::release(volume_);
            report.reset();
            if (released) report = std::move(*released);
        },
        [&](Call call, int error, const std::string&) {
            // Only the way in can stop it (opening or listing the directory). Past that, at most
            // the chunk that met the fault stays.
            if (report) {
                EXPECT_LE(truth().chunks, 1u);
            } else {
                EXPECT_TRUE(call == Call::Open || call == Call::Stat || call == Call::List);
            }
            // A signal stops nothing; so does a fault in what only reports.
            const bool only_reports = call == Call::Statvfs || call == Call::Syncfs ||
                                      call == Call::Fsync || call == Call::Flock ||
                                      call == Call::Unlink || call == Call::Truncate;
            if (only_reports || (error == EINTR && call == Call::Open)) {
                EXPECT_TRUE(report);
                EXPECT_EQ(truth().chunks, 0u);
            }
            ASSERT_TRUE(reserve::release(volume_));
            expect_released();
        }
    );
}

// A fault that stays: what can be freed is freed.
TEST_P(FaultyReserve, ReleasingWithAFaultThatStays) {
    for (const Call call :
         {Call::Fallocate, Call::Fsync, Call::Syncfs, Call::Unlink, Call::Statvfs, Call::Truncate,
          Call::Rename, Call::Write, Call::Mkdir, Call::Mode, Call::Ioctl, Call::Flock})
        for (const int error : kErrors) {
            SCOPED_TRACE(named(call, error, 1));
            wipe();
            converge_to_armed();
            {
                const Injecting injecting({.calls = bit(call), .error = error, .from_then_on = true}
                );
                ASSERT_TRUE(reserve::release(volume_));
            }
            expect_released();
            ASSERT_FALSE(HasFailure());
        }
}

TEST_P(FaultyReserve, ArmingWithAFaultThatStays) {
    for (unsigned call = 0; call < kCalls; call++)
        for (const int error : kErrors) {
            SCOPED_TRACE(named(Call(call), error, 1));
            wipe();
            {
                const Injecting injecting(
                    {.calls = bit(Call(call)), .error = error, .from_then_on = true}
                );
                lay_all();
            }
            expect_no_false_armed("");
            const bool needed = Call(call) == Call::Open || Call(call) == Call::Fsync ||
                                Call(call) == Call::Fallocate || Call(call) == Call::Rename;
            if (needed) {
                EXPECT_TRUE(failed_);
                EXPECT_EQ(truth().chunks, 0u);
            }
            converge_to_armed();
            ASSERT_FALSE(HasFailure());
        }
}

INSTANTIATE_TEST_SUITE_P(
    On, FaultyReserve, testing::Values("ext4", "btrfs", "xfs"),
    [](const testing::TestParamInfo<const char*>& type) { return std::string(type.param); }
);

} // namespace
} // namespace thaw::test
