// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "fixture.hpp"
#include "reserve/release.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>

namespace thaw::diskguard {
namespace {

using Reserve = DiskguardTest;

TEST_F(Reserve, IsLaidAndShownAsMeasured) {
    const auto before = free_bytes();
    start_daemon();
    ASSERT_TRUE(wait_armed());
    EXPECT_NEAR(static_cast<double>(before - free_bytes()), kReserve, kMiB);
    EXPECT_EQ(number("PlannedBytes"), kReserve);
    EXPECT_EQ(number("ReleasableBytes"), kReserve);
    EXPECT_EQ(number("HeldBytes"), kReserve);
    EXPECT_EQ(number("TotalBytes"), kVolume);
    EXPECT_EQ(text("FileSystem"), "tmpfs");
    EXPECT_EQ(text("MountPoint"), kMount);
    EXPECT_EQ(chunks_on_disk(), 2U);
    EXPECT_TRUE(until([&] { return keeper_->status.find("16.0M releasable") != std::string::npos; })
    );
}

TEST_F(Reserve, ReleaseGivesItAndTheRuleTakesItBack) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    // Too little for twice the reserve: it stays released.
    fill_until(10 * kMiB);
    auto reply = release();
    ASSERT_EQ(reply.error, "") << reply.text;
    std::uint64_t gained = 0;
    ASSERT_TRUE(reply.message.read("t", &gained));
    EXPECT_NEAR(static_cast<double>(gained), kReserve, kMiB);
    EXPECT_EQ(text("State"), "released");
    EXPECT_EQ(number("ReleasableBytes"), 0U);
    ASSERT_TRUE(wait_text("Rearm", "deferred"));
    EXPECT_EQ(number("RearmNeededBytes"), kReserve);
    EXPECT_EQ(number("RearmThresholdBytes"), 2 * kReserve);
    EXPECT_EQ(actions_, std::vector<std::string>{"release"});
    // Nothing to release is no error, and no action.
    reply = release();
    EXPECT_EQ(reply.error, "");
    ASSERT_TRUE(reply.message.read("t", &gained));
    EXPECT_EQ(gained, 0U);
    EXPECT_EQ(actions_.size(), 1U);
    // Restarted and killed: still released.
    kill_daemon();
    start_daemon();
    fakes::run_for(*loop_, 300 * kUsecPerMsec);
    EXPECT_EQ(text("State"), "released");
    EXPECT_EQ(chunks_on_disk(), 0U);
    empty();
    EXPECT_TRUE(wait_armed());
}

TEST_F(Reserve, APartCanBeReleased) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    // With the chunk's 8 MiB still less than twice what is missing then.
    fill_until(5 * kMiB);
    ASSERT_EQ(release(1).error, "");
    EXPECT_EQ(text("State"), "degraded");
    EXPECT_EQ(number("ReleasableBytes"), kReserve / 2);
    EXPECT_EQ(chunks_on_disk(), 1U);
}

TEST_F(Reserve, WhatSomebodyElseReleasedCountsAsReleased) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    fill_until(10 * kMiB);
    const auto volume = reserve::find_volume(kMount);
    ASSERT_TRUE(volume);
    ASSERT_TRUE(reserve::release(*volume));
    EXPECT_TRUE(wait_text("Rearm", "deferred"));
    EXPECT_EQ(text("State"), "released");
}

TEST_F(Reserve, FirstArmingObeysTheRule) {
    fill_until(20 * kMiB);
    start_daemon();
    ASSERT_TRUE(wait_text("Rearm", "deferred"));
    EXPECT_EQ(text("State"), "deferred");
    EXPECT_EQ(chunks_on_disk(), 0U);
    empty();
    EXPECT_TRUE(wait_armed());
}

TEST_F(Reserve, NoDescriptorPinsTheMount) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    bool unmounted = false;
    // A look may be under way; it is over in a moment.
    EXPECT_TRUE(until([&] { return unmounted || (unmounted = unmount_volume()); }));
    ASSERT_TRUE(until([&] { return volumes_.size() >= 2; }));
    // Its path is on the file system around it now; the volume itself is gone.
    EXPECT_TRUE(until([&] { return text("State") != "armed"; }));
    mount_volume();
    EXPECT_TRUE(until([&] { return chunks_on_disk() == 2; }));
}

TEST_F(Reserve, ADamagedChunkIsHealed) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    for (const char* damage : {"truncate -s 4096 $f", "ln $f $f.other", "rm $f; mkdir $f"}) {
        const auto command = fmt::format(
            "cd {}/{}; rm -f *.other; f=$(find . -type f -size +1M | head -1); {}", kMount,
            reserve::kDirectory, damage
        );
        ASSERT_EQ(std::system(command.c_str()), 0) << damage; // NOLINT(concurrency-mt-unsafe)
        ASSERT_LT(chunks_on_disk(), 2U) << damage;
        ASSERT_TRUE(until([&] { return chunks_on_disk() >= 2; })) << damage;
        ASSERT_TRUE(wait_armed()) << damage;
    }
}

TEST_F(Reserve, KilledAtAnyMomentItConverges) {
    std::minstd_rand random(20260321);
    for (int round = 0; round < 25; ++round) {
        start_daemon();
        if (round % 3 == 0) (void)release();
        fakes::run_for(*loop_, random() % (30 * kUsecPerMsec));
        kill_daemon();
    }
    start_daemon();
    ASSERT_TRUE(wait_armed());
    EXPECT_EQ(number("ReleasableBytes"), kReserve);
    EXPECT_EQ(chunks_on_disk(), 2U);
    // Nothing else is left of the attempts.
    EXPECT_NEAR(static_cast<double>(kVolume - free_bytes()), kReserve, kMiB);
}

TEST_F(Reserve, NoReserveConfigured) {
    write_config("", "ReserveSize=0");
    start_daemon();
    ASSERT_TRUE(wait_text("Level", "normal"));
    EXPECT_EQ(number("PlannedBytes"), 0U);
    EXPECT_EQ(chunks_on_disk(), 0U);
    EXPECT_TRUE(reserve(kMiB));
}

TEST_F(Reserve, WhatCannotBeLookedAtIsNotArmed) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    const auto folder = std::string(kMount) + "/" + reserve::kDirectory;
    ASSERT_EQ(::chmod(folder.c_str(), 0775), 0); // others may write: no reserve of ours
    ASSERT_TRUE(wait_text("State", "failed"));
    EXPECT_NE(text("StateReason"), "");
    EXPECT_EQ(number("ReleasableBytes"), 0U);
    ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
    ASSERT_TRUE(wait_armed());
    EXPECT_EQ(text("StateReason"), "");
}

TEST_F(Reserve, AFolderThatVanishesIsLookedAtOn) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    for (int round = 0; round < 5; ++round) {
        ASSERT_TRUE(remove_tree(std::string(kMount) + "/" + reserve::kDirectory));
        ASSERT_TRUE(until([&] { return chunks_on_disk() == 2; })) << "round " << round;
    }
}

TEST_F(Reserve, WhatAKillLeftHalfLaidIsRemoved) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    kill_daemon();
    const auto folder = std::string(kMount) + "/" + reserve::kDirectory;
    for (const char* chunk : {"/chunk-0000", "/chunk-0001"})
        ASSERT_EQ(::unlink((folder + chunk).c_str()), 0);
    const auto left = folder + "/.fresh-0000";
    {
        const auto fd = open_file(left, O_WRONLY | O_CREAT, 0600);
        ASSERT_TRUE(fd);
        ASSERT_EQ(::posix_fallocate(fd->get(), 0, static_cast<off_t>(4 * kMiB)), 0);
    }
    fill_until(kMiB); // nothing is laid meanwhile, which would remove it as well
    start_daemon();
    EXPECT_TRUE(until([&] { return ::access(left.c_str(), F_OK) != 0; }));
    EXPECT_EQ(chunks_on_disk(), 0U);
}

} // namespace
} // namespace thaw::diskguard
