// SPDX-License-Identifier: MIT
// The control socket beside the blocks: what it tells, and points of a disk that is written to.
#include "core/file.hpp"
#include "nbd_client.hpp"
#include "protocol/rootfs_client.hpp"
#include "server.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

namespace thaw::rootfs::test {
namespace {

using protocol::PointKind;
using protocol::RootfsClient;

class Control : public ::testing::Test {
protected:
    void start(std::vector<std::string> settings) {
        server_.make_base(16 * kMiB);
        server_.start(std::move(settings));
    }
    RootfsClient connect() {
        auto client = RootfsClient::connect(server_.control_socket());
        EXPECT_TRUE(client) << client.error().message();
        return std::move(*client);
    }
    // The disk of a point, put together as an export is.
    Bytes disk_of(const protocol::PointReply& point) {
        Bytes disk = server_.base();
        for (const auto& entry : point.table) {
            const auto part =
                std::span(disk).subspan(entry.first_block * kBlock, entry.count * kBlock);
            if (entry.kind == PointKind::Zero) {
                std::ranges::fill(part, std::byte{0});
                continue;
            }
            const int fd = entry.kind == PointKind::Memory ? point.memory.get() : point.disk.get();
            EXPECT_TRUE(pread_exact(fd, part, entry.file_offset));
        }
        return disk;
    }
    static Bytes read_disk(NbdClient& client) {
        Bytes disk(16 * kMiB);
        EXPECT_EQ(client.read(0, disk), 0);
        return disk;
    }
    Server server_;
};

TEST_F(Control, TellsWhatIsWhere) {
    start({"memory=1M", "spill=" + server_.path(""), "disk-max=8M"});
    NbdClient client(server_.nbd_socket());
    ASSERT_EQ(client.write(0, filled(2 * kMiB, 1)), 0);
    ASSERT_EQ(client.zero(4 * kMiB, kMiB), 0);
    const auto status = connect().status();
    ASSERT_TRUE(status) << status.error().message();
    EXPECT_EQ(status->name, "vm");
    EXPECT_EQ(status->geometry, (protocol::DiskGeometry{16 * kMiB, 4096}));
    EXPECT_EQ(status->base_path, server_.path("base"));
    const auto base = open_file(server_.path("base"), 0);
    EXPECT_EQ(status->base, *protocol::base_identity_of(base->get()));
    EXPECT_EQ(status->dirty_blocks, 768u);
    EXPECT_EQ(status->zero_blocks, 256u);
    EXPECT_EQ(status->dirty_bytes, 2 * kMiB);
    EXPECT_EQ(status->memory_used, kMiB);
    EXPECT_EQ(status->memory_budget, kMiB);
    EXPECT_EQ(status->disk_used, kMiB);
    EXPECT_EQ(status->disk_budget, 8 * kMiB);
    EXPECT_EQ(status->spilled_bytes, kMiB);
    EXPECT_EQ(status->clients, 1u);
    EXPECT_FALSE(status->durable);
    EXPECT_EQ(status->writes, 2u);
}

TEST_F(Control, APointStaysWhatItWasWhileTheDiskIsWritten) {
    start({"memory=2M", "spill=" + server_.path("")});
    NbdClient client(server_.nbd_socket());
    ASSERT_EQ(client.write(kMiB, filled(3 * kMiB, 1)), 0); // in memory and on disk
    ASSERT_EQ(client.trim(8 * kMiB, kMiB), 0);
    const auto before = read_disk(client);
    auto holder = connect();
    const auto point = holder.point();
    ASSERT_TRUE(point) << point.error().message();
    EXPECT_EQ(disk_of(*point), before);
    ASSERT_EQ(client.write(0, filled(16 * kMiB, 2)), 0);
    ASSERT_EQ(client.trim(0, 2 * kMiB), 0);
    ASSERT_EQ(client.write(kMiB, filled(kMiB, 3)), 0);
    EXPECT_EQ(disk_of(*point), before);
    EXPECT_NE(read_disk(client), before);
    // Neither can be written through.
    EXPECT_LT(::pwrite(point->memory.get(), "x", 1, 0), 0);
    EXPECT_LT(::pwrite(point->disk.get(), "x", 1, 0), 0);
}

TEST_F(Control, OnePointAtATimeUntilItsHolderIsGone) {
    start({"memory=8M"});
    NbdClient client(server_.nbd_socket());
    ASSERT_EQ(client.write(0, filled(kMiB, 1)), 0);
    const pid_t holder = ::fork();
    if (holder == 0) {
        auto mine = RootfsClient::connect(server_.control_socket());
        const auto point = mine ? mine->point() : std::unexpected(mine.error());
        if (!point) ::_exit(1);
        ::pause();
    }
    auto other = connect();
    while (!other.status()->point_held)
        std::this_thread::yield();
    const auto refused = other.point();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().bus_name(), protocol::rootfs_error::kBusy);
    ASSERT_EQ(client.write(0, filled(kMiB, 2)), 0);
    EXPECT_EQ(other.status()->memory_used, 2 * kMiB) << "the point's blocks are kept";
    ::kill(holder, SIGKILL);
    ::waitpid(holder, nullptr, 0);
    while (other.status()->point_held)
        std::this_thread::yield();
    EXPECT_EQ(other.status()->memory_used, kMiB);
    EXPECT_TRUE(other.point());
}

TEST_F(Control, PointsOfADiskUnderLoadAreOneMoment) {
    start({"memory=1M", "spill=" + server_.path("")});
    std::atomic<std::uint64_t> highest{0};
    std::jthread writer([&](const std::stop_token& stop) {
        NbdClient client(server_.nbd_socket());
        Bytes block(kBlock);
        for (std::uint64_t count = 1; !stop.stop_requested(); ++count) {
            std::memcpy(block.data(), &count, sizeof count);
            ASSERT_EQ(client.write(count % 1024 * kBlock, block), 0);
            highest = count;
        }
    });
    std::uint64_t last = 0;
    for (int i = 0; i < 20; ++i) {
        while (highest < last + 500)
            std::this_thread::yield();
        auto holder = connect();
        const auto point = holder.point();
        ASSERT_TRUE(point) << point.error().message();
        while (highest < last + 1500) // the disk moves on
            std::this_thread::yield();
        const auto disk = disk_of(*point);
        last = 0;
        const auto count_at = [&](std::uint64_t block) {
            std::uint64_t count = 0;
            std::memcpy(&count, &disk[block * kBlock], sizeof count);
            return count;
        };
        for (const auto& entry : point->table)
            for (std::uint32_t n = 0; n < entry.count; ++n)
                last = std::max(last, count_at(entry.first_block + n));
        for (std::uint64_t back = 0; back < std::min<std::uint64_t>(1024, last); ++back)
            ASSERT_EQ(count_at((last - back) % 1024), last - back);
    }
    EXPECT_GT(last, 5000u);
}

} // namespace
} // namespace thaw::rootfs::test
