// SPDX-License-Identifier: MIT
// What clients of many kinds see of an overlay, and what is left of the base.
#include "core/file.hpp"
#include "nbd_client.hpp"
#include "server.hpp"

#include <fcntl.h>
#include <libnbd.h>

#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

namespace thaw::rootfs::test {
namespace {

constexpr std::uint32_t kHole = LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO;

class Nbd : public ::testing::Test {
protected:
    void start(std::vector<std::string> settings = {}, std::size_t size = 16 * kMiB) {
        server_.make_base(size);
        server_.start(std::move(settings));
    }
    void expect_base_untouched() {
        Bytes now(server_.base().size());
        const auto file = open_file(server_.path("base"), O_RDONLY);
        ASSERT_TRUE(pread_exact(file->get(), now, 0));
        EXPECT_EQ(now, server_.base());
    }
    Server server_;
};

TEST_F(Nbd, OffersWhatAGuestCanUse) {
    start();
    const NbdClient client(server_.nbd_socket());
    EXPECT_EQ(nbd_get_size(client.get()), 16 * static_cast<std::int64_t>(kMiB));
    EXPECT_EQ(nbd_is_read_only(client.get()), 0);
    EXPECT_EQ(nbd_is_rotational(client.get()), 0);
    EXPECT_EQ(nbd_can_flush(client.get()), 1);
    EXPECT_EQ(nbd_can_fua(client.get()), 1);
    EXPECT_EQ(nbd_can_trim(client.get()), 1);
    EXPECT_EQ(nbd_can_zero(client.get()), 1);
    EXPECT_EQ(nbd_can_fast_zero(client.get()), 1);
    EXPECT_EQ(nbd_can_multi_conn(client.get()), 1);
    EXPECT_EQ(nbd_get_block_size(client.get(), LIBNBD_SIZE_MINIMUM), 1);
    EXPECT_EQ(nbd_get_block_size(client.get(), LIBNBD_SIZE_PREFERRED), 4096);
}

TEST_F(Nbd, NbdcopyAndQemuSeeTheSameDisk) {
    start({"memory=4M", "spill=" + server_.path("")});
    // As it begins.
    EXPECT_EQ(
        run("qemu-img compare -f raw -F raw " + server_.path("base") + " " + server_.uri()), 0
    );
    EXPECT_EQ(run("nbdcopy " + server_.uri() + " " + server_.path("copy")), 0);
    EXPECT_EQ(run("cmp " + server_.path("copy") + " " + server_.path("base")), 0);
    // A whole other disk, with holes, by four connections; a part of it goes to the spill file.
    EXPECT_EQ(
        run("cp --sparse=always " + server_.path("base") + " " + server_.path("other") +
            " && printf thaw | dd conv=notrunc bs=1 seek=5000 of=" + server_.path("other") +
            " && dd if=/dev/urandom conv=notrunc bs=1M seek=3 count=5 of=" + server_.path("other")),
        0
    );
    EXPECT_EQ(
        run("nbdcopy --connections=4 --flush " + server_.path("other") + " " + server_.uri()), 0
    );
    EXPECT_EQ(
        run("qemu-img compare -f raw -F raw " + server_.path("other") + " " + server_.uri()), 0
    );
    EXPECT_EQ(run("nbdcopy --connections=4 " + server_.uri() + " " + server_.path("copy2")), 0);
    EXPECT_EQ(run("cmp " + server_.path("copy2") + " " + server_.path("other")), 0);
    expect_base_untouched();
}

TEST_F(Nbd, QemuIoWritesZeroesAndDiscards) {
    start();
    EXPECT_EQ(
        run("qemu-io -f raw -c 'write -P 0x11 0 1M' -c 'write -P 0x22 4097 3333'"
            " -c 'write -z 65536 65536' -c 'write -z 262145 1000' -c 'discard 512k 64k'"
            " -c 'write -f -P 0x33 1M 4k' -c flush"
            " -c 'read -P 0x11 0 4097' -c 'read -P 0x22 4097 3333' -c 'read -P 0x11 7430 58106'"
            " -c 'read -P 0 64k 64k' -c 'read -P 0x11 262144 1' -c 'read -P 0 262145 1000'"
            " -c 'read -P 0x11 263145 999' -c 'read -P 0 512k 64k' -c 'read -P 0x33 1M 4k' " +
            server_.uri()),
        0
    );
    // The test sees a wrong pattern.
    EXPECT_NE(run("qemu-io -f raw -c 'read -P 0x12 0 4k' " + server_.uri()), 0);
    std::string map;
    EXPECT_EQ(run("qemu-img map -f raw --output=json " + server_.uri(), &map), 0);
    EXPECT_NE(
        map.find(R"("start": 65536, "length": 65536, "depth": 0, "present": true, "zero": true)"),
        std::string::npos
    ) << map;
}

TEST_F(Nbd, BlockStatusTellsHolesOfTheBaseAndOfTheOverlay) {
    start({"size=20M"});
    NbdClient client(server_.nbd_socket());
    const NbdClient::Extent data{4 * kMiB, 0};
    const NbdClient::Extent hole{4 * kMiB, kHole};
    EXPECT_EQ(
        client.extents(0, 20 * kMiB), (std::vector{data, hole, {8 * kMiB, 0}, hole})
    ); // 4 MiB beyond the base
    EXPECT_EQ(client.trim(0, kMiB), 0);
    EXPECT_EQ(client.write(5 * kMiB, filled(kMiB, 1)), 0);
    EXPECT_EQ(
        client.extents(0, 8 * kMiB),
        (std::vector<NbdClient::Extent>{
            {kMiB, kHole}, {3 * kMiB, 0}, {kMiB, kHole}, {kMiB, 0}, {2 * kMiB, kHole}
        })
    );
}

TEST_F(Nbd, ManyConnectionsAtOnceAreOneDisk) {
    start({"memory=1M", "spill=" + server_.path("")});
    constexpr std::size_t kClients = 4;
    Bytes model = server_.base();
    {
        std::vector<std::jthread> threads;
        for (std::size_t c = 0; c < kClients; ++c)
            threads.emplace_back([&, c] {
                std::mt19937_64 random(c);
                NbdClient client(server_.nbd_socket());
                // Its own quarter, but for the locks that all share.
                const std::size_t begin = c * 4 * kMiB;
                for (int i = 0; i < 300; ++i) {
                    const std::size_t offset = begin + random() % (4 * kMiB - 70'000);
                    const std::size_t length = 1 + random() % 70'000;
                    const auto data = filled(length, static_cast<int>(random() % 3));
                    ASSERT_EQ(client.write(offset, data, i % 50 == 0), 0);
                    std::copy(
                        data.begin(), data.end(),
                        model.begin() + static_cast<std::ptrdiff_t>(offset)
                    );
                }
            });
    }
    NbdClient client(server_.nbd_socket());
    Bytes now(model.size());
    for (std::size_t at = 0; at < now.size(); at += 4 * kMiB)
        ASSERT_EQ(client.read(at, std::span(now).subspan(at, 4 * kMiB)), 0);
    EXPECT_TRUE(now == model);
}

TEST_F(Nbd, AFullBudgetIsToldAndRoomComesBack) {
    start({"memory=1M"});
    NbdClient client(server_.nbd_socket());
    EXPECT_EQ(client.write(0, filled(kMiB, 1)), 0);
    EXPECT_EQ(client.write(8 * kMiB, filled(4096, 1)), ENOSPC);
    EXPECT_EQ(client.write(0, filled(kMiB, 2)), 0) << "what has its place";
    EXPECT_EQ(client.zero(8 * kMiB, kMiB), 0) << "zeros need none";
    EXPECT_EQ(client.trim(0, 4096), 0);
    EXPECT_EQ(client.write(8 * kMiB, filled(4096, 1)), 0);
    EXPECT_NE(server_.log().find("vm: its root file system has no room"), std::string::npos);
}

TEST_F(Nbd, BadSettingsAreRefusedWithTheirReason) {
    struct Case {
        std::vector<std::string> settings;
        std::string text;
    };
    for (const auto& [settings, text] : std::vector<Case>{
             {{"memory=0"}, "no room for changes"},
             {{"size=1M"}, "smaller than its base"},
             {{"size=20000001"}, "whole sectors"},
             {{"colour=red"}, "colour=red: no such setting"},
             {{"spill=here"}, "must begin with a slash"},
             {{"spill=/nonexistent"}, "/nonexistent"},
             {{"durable=/tmp/a", "spill=/tmp"}, "spill= is for others"},
         }) {
        Server server;
        server.make_base(4 * kMiB);
        server.start(settings);
        for (int i = 0; i < 500 && server.running(); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        EXPECT_FALSE(server.running());
        EXPECT_NE(server.log().find(text), std::string::npos) << text << "\n" << server.log();
    }
}

} // namespace
} // namespace thaw::rootfs::test
