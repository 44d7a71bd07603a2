// SPDX-License-Identifier: MIT
#include "../support/temporary_directory.hpp"
#include "core/file.hpp"
#include "core/scm.hpp"
#include "fakes/overlay_server.hpp"
#include "protocol/rootfs_client.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

namespace thaw::protocol {
namespace {

constexpr DiskGeometry kGeometry{.size = 16 * 4096, .block_size = 4096};

Fd memfd(std::uint64_t size) {
    Fd fd(::memfd_create("blocks", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    return fd;
}

std::vector<Fd> fds(std::initializer_list<int> borrowed) {
    std::vector<Fd> owned;
    for (const int fd : borrowed)
        owned.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    return owned;
}

// An answer with one run in memory, one on disk, one of zeros.
struct Point {
    std::vector<PointEntry> entries{
        {.first_block = 1, .count = 2, .kind = PointKind::Memory, .file_offset = 4096},
        {.first_block = 3, .count = 1, .kind = PointKind::Zero, .file_offset = 0},
        {.first_block = 9, .count = 7, .kind = PointKind::Disk, .file_offset = 0},
    };
    Fd table;
    Fd memory = memfd(3 * 4096);
    Fd disk = memfd(7 * 4096);
    PointView view;

    RootfsMessage encode() {
        table = make_point_table(entries).value();
        view.geometry = kGeometry;
        view.base = {.kind = BaseKind::Content, .size = 4096, .id = {1, 2, 3}};
        view.epoch = 5;
        view.entries = entries.size();
        view.table = table.get();
        view.memory = memory.get();
        view.disk = disk.get();
        return encode_point_reply(view);
    }
    Result<PointReply> decode() {
        const auto message = encode();
        return decode_point_reply(message.data, fds({table.get(), memory.get(), disk.get()}));
    }
};

void expect_bad(const Result<PointReply>& reply, std::string_view text) {
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code(), EBADMSG);
    EXPECT_NE(reply.error().message().find(text), std::string::npos) << reply.error().message();
}

TEST(RootfsControl, APointComesThroughAsItIs) {
    Point point;
    const auto reply = point.decode();
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->geometry, kGeometry);
    EXPECT_EQ(reply->base, point.view.base);
    EXPECT_EQ(reply->epoch, 5U);
    EXPECT_EQ(reply->table, point.entries);
    EXPECT_EQ(identify(reply->memory.get()).value(), identify(point.memory.get()).value());
    EXPECT_EQ(identify(reply->disk.get()).value(), identify(point.disk.get()).value());
}

TEST(RootfsControl, HostileTablesAreRefused) {
    const auto with = [](auto change) {
        Point point;
        change(point.entries);
        return point.decode();
    };
    expect_bad(with([](auto& e) { e[1].first_block = 2; }), "blocks 2+1");  // twice
    expect_bad(with([](auto& e) { std::swap(e[0], e[1]); }), "blocks 1+2"); // order
    expect_bad(with([](auto& e) { e[2].count = 8; }), "blocks 9+8");        // beyond the end
    expect_bad(with([](auto& e) { e[2].first_block = UINT64_MAX; }), "blocks");
    expect_bad(with([](auto& e) { e[0].count = 0; }), "blocks 1+0");
    expect_bad(with([](auto& e) { e[0].file_offset = 512; }), "offset 512");
    expect_bad(with([](auto& e) { e[0].file_offset = UINT64_MAX - 4095; }), "offset");
    expect_bad(with([](auto& e) { e[1].file_offset = 4096; }), "zeros with a place");
    expect_bad(with([](auto& e) { e[0].kind = static_cast<PointKind>(4); }), "unknown kind 4");
}

TEST(RootfsControl, ATableThatCouldChangeIsRefused) {
    Point point;
    const auto message = point.encode();
    const Fd loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_TRUE(write_all(loose.get(), std::as_bytes(std::span(point.entries))));
    const auto decode = [&] {
        return decode_point_reply(
            message.data, fds({loose.get(), point.memory.get(), point.disk.get()})
        );
    };
    expect_bad(decode(), "not sealed");
    ASSERT_EQ(::fcntl(loose.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    expect_bad(decode(), "not sealed"); // without F_SEAL_SEAL
    ASSERT_EQ(::fcntl(loose.get(), F_ADD_SEALS, F_SEAL_SEAL), 0);
    EXPECT_TRUE(decode());
    point.entries.pop_back();
    const auto shorter = point.encode();
    expect_bad(
        decode_point_reply(shorter.data, fds({loose.get(), point.memory.get(), point.disk.get()})),
        "72 bytes for 2 entries"
    );
}

TEST(RootfsControl, DescriptorsMustBeThoseThatTheTableNeeds) {
    Point point;
    const auto message = point.encode();
    const int table = point.table.get();
    const int memory = point.memory.get();
    expect_bad(decode_point_reply(message.data, fds({table, memory})), "descriptor count");
    point.view.disk = -1;
    const auto without = encode_point_reply(point.view);
    expect_bad(
        decode_point_reply(without.data, fds({table, memory})), "a file that did not come along"
    );
    const Fd device = open_file("/dev/zero", O_RDONLY).value();
    expect_bad(decode_point_reply(message.data, fds({table, memory, device.get()})), "no file");
}

// Every single byte of an answer changed: an error or another valid answer, never anything else.
TEST(RootfsControl, DamagedAnswersNeverPassTheirChecks) {
    Point point;
    const auto message = point.encode();
    std::mt19937 random(7);
    for (std::size_t at = 0; at < message.data.size(); ++at) {
        auto damaged = message.data;
        damaged[at] ^= static_cast<std::byte>(1U << random() % 8);
        const auto reply = decode_point_reply(
            damaged, fds({point.table.get(), point.memory.get(), point.disk.get()})
        );
        if (!reply) continue;
        EXPECT_TRUE(check_geometry(reply->geometry));
        EXPECT_TRUE(check_point_table(reply->table, reply->geometry));
    }
    for (std::size_t size = 0; size < message.data.size(); ++size)
        EXPECT_FALSE(decode_point_reply(
            std::span(message.data).first(size),
            fds({point.table.get(), point.memory.get(), point.disk.get()})
        ));
}

TEST(RootfsControl, GeometriesOutOfRangeAreRefused) {
    EXPECT_TRUE(check_geometry({.size = 512 * 3, .block_size = 4096}));
    EXPECT_EQ((DiskGeometry{.size = 512 * 9, .block_size = 4096}.blocks()), 2U);
    for (const DiskGeometry bad : {
             DiskGeometry{.size = 0, .block_size = 4096},
             DiskGeometry{.size = 4097, .block_size = 4096},
             DiskGeometry{.size = 4096, .block_size = 0},
             DiskGeometry{.size = 4096, .block_size = 256},
             DiskGeometry{.size = 4096, .block_size = 3072},
             DiskGeometry{.size = 4096, .block_size = 4 << 20},
             DiskGeometry{.size = kMaxDiskSize + 512, .block_size = 4096},
         })
        EXPECT_FALSE(check_geometry(bad)) << bad.size << " " << bad.block_size;
}

TEST(RootfsControl, RequestsHaveNoBodyAndNoDescriptors) {
    const auto request = encode_rootfs_request(RootfsType::Point);
    EXPECT_EQ(decode_rootfs_request(request.data, {}).value(), RootfsType::Point);
    EXPECT_FALSE(decode_rootfs_request(request.data, fds({0})));
    EXPECT_FALSE(decode_rootfs_request(encode_rootfs_request(RootfsType::PointReply).data, {}));
    auto longer = request.data;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode_rootfs_request(longer, {}));
}

TEST(RootfsControl, AFailureKeepsItsNameAndIsSafeToPrint) {
    const auto busy = encode_rootfs_failure(rootfs_error::kBusy, EBUSY, "held\x1b[2J by\nanother");
    const auto error = decode_status_reply(busy.data, {});
    ASSERT_FALSE(error);
    EXPECT_EQ(error.error().bus_name(), rootfs_error::kBusy);
    EXPECT_EQ(error.error().code(), EBUSY);
    EXPECT_EQ(error.error().message(), "held[2J byanother");
    const auto unknown = decode_point_reply(encode_rootfs_failure("org.x", 0, "\xff").data, {});
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().bus_name(), "");
    EXPECT_EQ(unknown.error().code(), EIO);
    EXPECT_EQ(unknown.error().message(), "the overlay's message is not UTF-8");
}

TEST(RootfsControl, AStatusComesThroughAsItIs) {
    RootfsStatus status;
    status.name = "web";
    status.geometry = kGeometry;
    status.base = {.kind = BaseKind::File, .size = 77, .id = {9, 8}};
    status.base_path = "/srv/base image.raw";
    status.dirty_blocks = 3;
    status.failed_writes = UINT64_MAX;
    status.durable = true;
    const auto parsed = decode_status_reply(encode_status_reply(status).data, {});
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(format_rootfs_status(*parsed), format_rootfs_status(status));
    EXPECT_EQ(parsed->failed_writes, UINT64_MAX);
    EXPECT_EQ(parsed->base, status.base);
    EXPECT_EQ(parsed->base_path, status.base_path);

    EXPECT_FALSE(parse_rootfs_status("{}"));
    status.base_path = "/a\nb";
    EXPECT_FALSE(decode_status_reply(encode_status_reply(status).data, {}));
    // An older server that counts less.
    const auto little =
        parse_rootfs_status(R"({"name":"a","size":512,"block_size":512,"later":[],)"
                            R"("base":{"kind":"none","id":"00000000000000000000000000000000"}})");
    ASSERT_TRUE(little) << little.error().message();
    EXPECT_EQ(little->writes, 0U);
}

TEST(RootfsControl, TheIdentityOfABaseChangesWithIt) {
    const test::TemporaryDirectory folder;
    const std::string path = folder.write("base", "base");
    const auto identity = [&] {
        return base_identity_of(open_file(path, O_RDONLY).value().get()).value();
    };
    const auto first = identity();
    EXPECT_EQ(first, identity());
    EXPECT_EQ(first.size, 4U);
    folder.write("base", "esab!");
    EXPECT_NE(first.id, identity().id);
}

class Served : public ::testing::Test {
protected:
    test::TemporaryDirectory folder_;
    std::string socket_ = folder_ / "control";
    fakes::OverlayServer server_{{
        .socket = socket_,
        .base_path = folder_.write("base", std::string(kGeometry.size, 'b')),
        .geometry = kGeometry,
        .disk_path = folder_ / "spill",
        .memory_blocks = 2,
    }};
    void write(std::uint64_t block, char value) {
        server_.write(block, std::vector(4096, static_cast<std::byte>(value)));
    }
    static char read(const Fd& file, std::uint64_t offset) {
        std::array<std::byte, 1> byte{};
        EXPECT_TRUE(pread_exact(file.get(), byte, offset));
        return static_cast<char>(byte[0]);
    }
};

TEST_F(Served, APointIsNotChangedByWritesAfterIt) {
    write(1, 'x');
    write(2, 'y');
    write(5, 'z'); // over the budget
    write(6, '\0');
    auto client = RootfsClient::connect(socket_);
    ASSERT_TRUE(client) << client.error().message();
    EXPECT_EQ(client->status().value().dirty_blocks, 3U);
    const auto point = client->point();
    ASSERT_TRUE(point) << point.error().message();
    ASSERT_EQ(point->table.size(), 4U);
    write(1, 'X');
    write(7, 'n');
    EXPECT_EQ(read(point->memory, point->table[0].file_offset), 'x');
    EXPECT_EQ(point->table[2].kind, PointKind::Disk);
    EXPECT_EQ(read(point->disk, point->table[2].file_offset), 'z');
    EXPECT_EQ(point->table[3].kind, PointKind::Zero);
}

TEST_F(Served, OnePointAtATimeUntilItsHolderIsGone) {
    write(1, 'x');
    auto second = RootfsClient::connect(socket_);
    ASSERT_TRUE(second);
    {
        auto first = RootfsClient::connect(socket_);
        ASSERT_TRUE(first);
        ASSERT_TRUE(first->point());
        const auto refused = second->point();
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().bus_name(), rootfs_error::kBusy);
        EXPECT_TRUE(second->status().value().point_held);
    }
    for (int i = 0; i < 200 && server_.point_held(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(second->point());
}

TEST_F(Served, NobodyThereAndNobodyAnswering) {
    const auto absent = RootfsClient::connect(folder_ / "absent");
    ASSERT_FALSE(absent);
    EXPECT_EQ(absent.error().bus_name(), rootfs_error::kNotRunning);
    const auto deaf = listen_unix(folder_ / "deaf", SOCK_SEQPACKET, 1);
    auto client = RootfsClient::connect(folder_ / "deaf", 50000);
    ASSERT_TRUE(client);
    const auto status = client->status();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), ETIMEDOUT);
}

TEST(RootfsList, NamesOfVmsAndNothingElse) {
    const test::TemporaryDirectory folder;
    EXPECT_TRUE(list_rootfs(folder / "none").value().empty());
    for (const char* name : {"web", "a-b", ".hidden", "not a vm"})
        std::filesystem::create_directory(folder / name);
    EXPECT_EQ(list_rootfs(folder.path()).value(), (std::vector<std::string>{"a-b", "web"}));
    EXPECT_EQ(rootfs_control_socket("a-b"), "/run/thaw/rootfs/a-b/control");
}

} // namespace
} // namespace thaw::protocol
