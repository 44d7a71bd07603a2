// SPDX-License-Identifier: MIT
// thawctl rootfs export and import against the overlay of a real server.
#include "core/file.hpp"
#include "nbd_client.hpp"
#include "server.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

namespace thaw::rootfs::test {
namespace {

constexpr std::size_t kSize = 24 * kMiB;

class Export : public ::testing::Test {
protected:
    void start(std::vector<std::string> settings) {
        server_.make_base(kSize);
        server_.start(std::move(settings));
    }
    // The server's folder stands for that of a VM.
    int rootfs(const std::string& words) {
        const std::filesystem::path folder =
            std::filesystem::path(server_.control_socket()).parent_path();
        return run(
            fmt::format(
                "{} rootfs --runtime {} {}", THAWCTL_PROGRAM, folder.parent_path().string(), words
            ),
            &output_
        );
    }
    std::string vm() {
        return std::filesystem::path(server_.control_socket()).parent_path().filename();
    }
    void export_and_import(const std::string& name) {
        const auto delta = server_.path(name + ".delta");
        ASSERT_EQ(rootfs(fmt::format("export {} {}", vm(), delta)), 0) << output_;
        ASSERT_EQ(
            rootfs(fmt::format(
                "import {} {} --base {}", delta, server_.path(name), server_.path("base")
            )),
            0
        ) << output_;
    }
    Bytes contents(const std::string& name) {
        const auto text = read_file(server_.path(name), 2 * kSize);
        EXPECT_TRUE(text);
        const auto bytes = std::as_bytes(std::span(*text));
        return {bytes.begin(), bytes.end()};
    }
    Server server_;
    std::string output_;
};

// Some of it in memory, some spilled, some zeros, some written over again.
void write_at_random(NbdClient& client, std::mt19937_64& random, int count) {
    for (int i = 0; i < count; ++i) {
        const std::size_t offset = random() % (kSize / 512) * 512;
        const std::size_t length = std::min((1 + random() % 40) * 512, kSize - offset);
        if (random() % 6 == 0) {
            ASSERT_EQ(client.zero(offset, length), 0);
            continue;
        }
        Bytes data(length);
        for (auto& byte : data)
            byte = static_cast<std::byte>(random());
        ASSERT_EQ(client.write(offset, data), 0);
    }
}

TEST_F(Export, OthersReadTheSameDisk) {
    start({"memory=2M", "spill=" + server_.path("")});
    {
        NbdClient client(server_.nbd_socket());
        std::mt19937_64 random(12);
        write_at_random(client, random, 1500);
        ASSERT_EQ(client.flush(), 0);
    }
    ASSERT_NO_FATAL_FAILURE(export_and_import("disk"));
    EXPECT_EQ(
        run(fmt::format(
                "qemu-img compare -f raw -F raw '{}' {}", server_.uri(), server_.path("disk")
            ),
            &output_),
        0
    ) << output_;
    ASSERT_EQ(run(fmt::format("nbdcopy '{}' {}", server_.uri(), server_.path("copy")), &output_), 0)
        << output_;
    EXPECT_TRUE(contents("copy") == contents("disk"));
    EXPECT_EQ(
        rootfs(fmt::format(
            "compare {} {} --base {}", server_.path("disk.delta"), server_.path("copy"),
            server_.path("base")
        )),
        0
    ) << output_;
    // Nothing of the base is in it.
    EXPECT_LT(
        std::filesystem::file_size(server_.path("disk.delta")),
        std::filesystem::file_size(server_.path("base"))
    );
}

TEST_F(Export, AnotherDiskIsNotTheSame) {
    start({"memory=64M"});
    ASSERT_NO_FATAL_FAILURE(export_and_import("before"));
    EXPECT_TRUE(contents("before") == server_.base());
    NbdClient client(server_.nbd_socket());
    ASSERT_EQ(client.write(5 * kMiB, Bytes(512, std::byte{7})), 0);
    EXPECT_NE(
        run(fmt::format(
                "qemu-img compare -f raw -F raw '{}' {}", server_.uri(), server_.path("before")
            ),
            &output_),
        0
    );
}

// One writer puts the next number into the next block, around and around: a disk of one moment has
// the last number it has, and all before it in their places.
TEST_F(Export, WhileTheDiskIsWrittenItIsOneMoment) {
    constexpr std::uint64_t kRing = 2048;
    start({"memory=2M", "spill=" + server_.path("")});
    std::atomic<std::uint64_t> highest{0};
    std::jthread writer([&](const std::stop_token& stop) {
        NbdClient client(server_.nbd_socket());
        Bytes block(kBlock);
        for (std::uint64_t count = 1; !stop.stop_requested(); ++count) {
            std::memcpy(block.data(), &count, sizeof count);
            ASSERT_EQ(client.write(count % kRing * kBlock, block), 0);
            highest = count;
        }
    });
    for (int round = 0; round < 5; ++round) {
        const auto from = highest.load();
        while (highest < from + 3000)
            std::this_thread::yield();
        const auto name = fmt::format("disk{}", round);
        const auto before = highest.load();
        ASSERT_NO_FATAL_FAILURE(export_and_import(name));
        EXPECT_GT(highest, before); // the guest was not held up
        const Bytes disk = contents(name);
        std::vector<std::uint64_t> counts(kRing);
        for (std::uint64_t block = 0; block < kRing; ++block)
            std::memcpy(&counts[block], &disk[block * kBlock], sizeof counts[block]);
        const auto last = *std::ranges::max_element(counts);
        EXPECT_GE(last, before);
        for (std::uint64_t back = 0; back < kRing; ++back)
            ASSERT_EQ(counts[(last - back) % kRing], last - back);
    }
}

} // namespace
} // namespace thaw::rootfs::test
