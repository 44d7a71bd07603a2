// SPDX-License-Identifier: MIT
// SIGKILL before and after each system call of arming, healing, re-arming and releasing. What must
// hold: the next look tells the truth, and the next turn brings it to where it was going.
#include "fault_fixture.hpp"
#include "reserve/arm.hpp"
#include "reserve/release.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace thaw::test {
namespace {

constexpr unsigned kTooMany = 1000;

class KilledReserve : public FaultyDisk {
protected:
    // Runs `work` in a child that dies at its nth call; false when it ended before.
    static bool dies(unsigned nth, Injection::Kill when, const std::function<void()>& work) {
        const pid_t child = fork();
        if (child == 0) {
            const Injecting injecting({.calls = kEveryCall, .nth = nth, .kill = when});
            work();
            _exit(0);
        }
        int status = 0;
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : status == 0) << status;
        return WIFSIGNALED(status);
    }
    void at_every_step(
        const std::function<void()>& prepare, const std::function<void()>& work,
        const std::function<void()>& check
    ) {
        unsigned deaths = 0;
        for (const auto when : {Injection::Kill::Before, Injection::Kill::After})
            for (unsigned nth = 1;; nth++) {
                ASSERT_LT(nth, kTooMany);
                SCOPED_TRACE(fmt::format(
                    "killed {} call {}", when == Injection::Kill::Before ? "before" : "after", nth
                ));
                prepare();
                if (!dies(nth, when, work)) break;
                deaths++;
                expect_no_false_armed("after the kill");
                check();
                ASSERT_FALSE(HasFailure());
            }
        RecordProperty("deaths", static_cast<int>(deaths));
        EXPECT_GT(deaths, 40u);
    }
    void lay_all() {
        for (;;) {
            const auto laid = reserve::lay_next_chunk(volume_, kSmallPlan);
            if (!laid || !*laid) return;
        }
    }
    std::string chunk(unsigned index) const {
        return fmt::format("{}/chunk-{:04}", directory(), index);
    }
};

TEST_P(KilledReserve, Arming) {
    at_every_step([&] { wipe(); }, [&] { lay_all(); }, [&] { converge_to_armed(); });
}

// What a kill leaves is released as well, whoever does it next.
TEST_P(KilledReserve, ArmingThenRelease) {
    at_every_step(
        [&] { wipe(); }, [&] { lay_all(); },
        [&] {
            ASSERT_TRUE(reserve::release(volume_));
            expect_released();
        }
    );
}

TEST_P(KilledReserve, Rearming) {
    at_every_step(
        [&] {
            wipe();
            converge_to_armed();
            ASSERT_EQ(unlink(chunk(1).c_str()), 0);
            ASSERT_EQ(truncate(chunk(2).c_str(), 0), 0);
        },
        [&] { lay_all(); }, [&] { converge_to_armed(); }
    );
}

TEST_P(KilledReserve, Healing) {
    at_every_step(
        [&] {
            wipe();
            converge_to_armed();
            ASSERT_EQ(truncate(chunk(0).c_str(), 4096), 0);
            ASSERT_EQ(unlink(chunk(1).c_str()), 0);
            ASSERT_EQ(mkfifo(chunk(1).c_str(), 0600), 0);
            ASSERT_EQ(chmod(chunk(2).c_str(), 0666), 0);
            ASSERT_EQ(unlink((directory() + "/README").c_str()), 0);
        },
        [&] { (void)reserve::heal(volume_, kSmallPlan); }, [&] { converge_to_armed(); }
    );
}

TEST_P(KilledReserve, Releasing) {
    at_every_step(
        [&] {
            wipe();
            converge_to_armed();
        },
        [&] { (void)reserve::release(volume_); },
        [&] {
            ASSERT_TRUE(reserve::release(volume_));
            expect_released();
        }
    );
}

INSTANTIATE_TEST_SUITE_P(
    On, KilledReserve, testing::Values("tmpfs", "ext4", "btrfs"),
    [](const testing::TestParamInfo<const char*>& type) { return std::string(type.param); }
);

} // namespace
} // namespace thaw::test
