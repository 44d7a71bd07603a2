// SPDX-License-Identifier: MIT
// Root file systems that are read through the cache: the broker, a real thaw-fetchd, and the
// overlay's own reader, in a thread as nbdkit's are.
#include "api/pager1.hpp"
#include "core/file.hpp"
#include "core/scm.hpp"
#include "fakes/must.hpp"
#include "fakes/socket_activated.hpp"
#include "fetch/file_identity.hpp"
#include "fixture.hpp"
#include "image/memory_map.hpp"
#include "overlay/remote_base.hpp"
#include "test_programs.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <future>
#include <random>

namespace thaw::pagerd {
namespace {

using fakes::must;
using rootfs::RemoteBase;

constexpr std::uint64_t kChunk = 4 << 20;
constexpr std::uint64_t kSize = 3 * kChunk;
constexpr image::ImageId kRootfsId{7, 7, 7};
constexpr rootfs::ContentDigest kDigest{1};

class RootfsServing : public PagerdTest {
protected:
    void SetUp() override {
        PagerdTest::SetUp();
        if (IsSkipped()) return;
        ASSERT_TRUE(make_directories(runtime_ + "/rootfs"));
        content_.resize(kSize);
        std::minstd_rand random(11);
        for (auto& c : content_)
            c = static_cast<char>(random() >> 8 | 1);
        const auto path = bus_daemon_->directory() + "/rootfs";
        ASSERT_TRUE(write_file_atomic(path, content_));
        file_ = must(open_file(path, O_RDONLY));
        identity_ = must(fetch::file_identity(file_.get()));
        const auto map =
            must(image::build_memory_map(file_.get(), kRootfsId, [](auto, auto) { return true; }));
        map_ = Fd(::memfd_create("map", MFD_CLOEXEC));
        must(write_all(map_.get(), std::span(map)));
        fetchd_ = must(fakes::SocketActivated::create(
            *loop_, bus_daemon_->directory() + "/fetch.sock", SOCK_SEQPACKET,
            {.program = kFetchProgram, .descriptors = {}, .environment = {}}
        ));
        write_config(fmt::format("FetchSocket={}", fetchd_->path()));
    }
    void TearDown() override {
        fetchd_.reset();
        PagerdTest::TearDown();
    }

    static std::string server_of(const std::string& vm) { return "thaw-rootfs@" + vm + ".service"; }
    std::string path_of_socket(const std::string& vm) const {
        return fmt::format("{}/rootfs/{}.sock", runtime_, vm);
    }
    BusMessage serve_call(const std::string& vm, const char* more = nullptr) {
        auto message = new_call("ServeRootfs");
        must(message.append("ss", vm.c_str(), server_of(vm).c_str()));
        must(message.append("a{sh}", 2, "map", map_.get(), "remote", file_.get()));
        must(message.open_container('a', "{sv}"));
        must(message.append("{sv}", "Id", "s", image::format_id(kRootfsId).c_str()));
        must(message.append("{sv}", "ImageName", "s", "web"));
        must(message.append("{sv}", "Length", "t", identity_.length));
        must(message.append("{sv}", "ETag", "s", identity_.etag.c_str()));
        if (more != nullptr) must(message.append("{sv}", more, "s", "x"));
        must(message.close_container());
        must(message.append("t", std::uint64_t{0}));
        return message;
    }
    // The error's name.
    std::string serve(const std::string& vm) { return call(serve_call(vm)).error; }
    std::string release(const std::string& vm) {
        auto message = new_call("ReleaseRootfs");
        must(message.append("st", vm.c_str(), std::uint64_t{0}));
        return call(std::move(message)).error;
    }
    // "VM UNIT IMAGE CLIENTS" of each.
    std::vector<std::string> list() {
        auto reply = call(new_call("ListRootfs"));
        std::vector<std::string> all;
        EXPECT_TRUE(reply.message.enter_container('a', "(sssu)"));
        for (;;) {
            const char *vm = nullptr, *unit = nullptr, *image = nullptr;
            std::uint32_t clients = 0;
            if (!*reply.message.enter_container('r', "sssu")) return all;
            must(reply.message.read("sssu", &vm, &unit, &image, &clients));
            must(reply.message.exit_container());
            all.push_back(fmt::format("{} {} {} {}", vm, unit, image, clients));
        }
    }
    // From a thread, while the loop (systemd, fetchd's socket) goes on here.
    template <class Work>
    auto beside(Work work) {
        auto running = std::async(std::launch::async, std::move(work));
        EXPECT_TRUE(until(
            [&] { return running.wait_for(std::chrono::seconds(0)) == std::future_status::ready; },
            30 * kUsecPerSec
        ));
        return running.get();
    }
    Result<std::unique_ptr<RemoteBase>> connect(const std::string& vm) {
        return beside([&] { return RemoteBase::connect(path_of_socket(vm), kDigest); });
    }
    bool is_right(RemoteBase& base, std::uint64_t offset, std::uint64_t length) {
        return beside([&] {
            std::string bytes(length, '?');
            const auto read = base.read(offset, std::as_writable_bytes(std::span(bytes)));
            EXPECT_TRUE(read) << read.error().message();
            return content_.compare(offset, length, bytes) == 0;
        });
    }
    void be_server_of(const std::string& vm) {
        systemd_->set_pid_unit(static_cast<std::uint32_t>(::getpid()), server_of(vm));
    }

    std::string content_;
    Fd file_;
    Fd map_;
    protocol::SourceIdentity identity_;
    std::unique_ptr<fakes::SocketActivated> fetchd_;
};

TEST_F(RootfsServing, ItsServerReadsAndNobodyElse) {
    start_daemon();
    ASSERT_EQ(serve("a"), "");
    EXPECT_EQ(list(), std::vector<std::string>{"a thaw-rootfs@a.service web 0"});
    be_server_of("b");
    const auto refused = connect("a");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EACCES);
    be_server_of("a");
    auto base = connect("a");
    ASSERT_TRUE(base) << base.error().message();
    EXPECT_EQ((*base)->size(), kSize);
    EXPECT_EQ(list(), std::vector<std::string>{"a thaw-rootfs@a.service web 1"});
    EXPECT_TRUE(is_right(**base, 0, kSize));
    base->reset();
    EXPECT_TRUE(until([&] { return list().at(0).ends_with(" 0"); }));
}

TEST_F(RootfsServing, WhatMakesNoSenseIsRefusedByName) {
    start_daemon();
    EXPECT_EQ(call(serve_call("a", "Colour")).error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(call(serve_call("a", "Length")).error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(call(serve_call("a", "Url")).error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(call(serve_call("../a")).error, "org.freedesktop.DBus.Error.InvalidArgs");
    ASSERT_EQ(serve("a"), "");
    EXPECT_EQ(serve("a"), pager1::error::kRootfsExists);
    identity_.etag = "another";
    EXPECT_EQ(serve("b"), pager1::error::kImageMismatch);
    EXPECT_EQ(list().size(), 1U);
    EXPECT_EQ(keeper_->count(".rootfs"), 1U);
    EXPECT_EQ(release("b"), "");
}

TEST_F(RootfsServing, TheStoreIsNotPromisedTwice) {
    write_config(fmt::format("FetchSocket={}\nFileDescriptorStoreMax=64", fetchd_->path()));
    start_daemon();
    ASSERT_EQ(create("vm"), ""); // has 2 in the store and may come to need 7
    std::size_t served = 0;
    std::string error;
    while (served < 64 && (error = serve(fmt::format("vm{}", served))).empty())
        ++served;
    EXPECT_EQ(error, pager1::error::kStoreFull);
    EXPECT_GT(served, 1U);
    EXPECT_EQ(list().size(), served);
    EXPECT_EQ(keeper_->count(".rootfs"), served);
    EXPECT_LE(keeper_->stored().size(), 64U - 5U);
    ASSERT_EQ(release("vm0"), "");
    EXPECT_EQ(serve("another"), "");
}

TEST_F(RootfsServing, WhatItsServerIsHandedCanOnlyBeRead) {
    start_daemon();
    ASSERT_EQ(serve("a"), "");
    be_server_of("a");
    const Fd connection = must(connect_unix(path_of_socket("a"), SOCK_SEQPACKET, true));
    std::optional<protocol::ControlMessage> greeting;
    ASSERT_TRUE(until([&] {
        if (auto message = protocol::receive_control(connection.get()))
            greeting = std::move(*message);
        return greeting.has_value();
    }));
    ASSERT_EQ(greeting->type, protocol::ControlType::Chunks);
    for (const Fd* fd : {&greeting->chunks.data, &greeting->chunks.map}) {
        EXPECT_EQ(::fcntl(fd->get(), F_GETFL) & O_ACCMODE, O_RDONLY);
        struct stat info{};
        ASSERT_EQ(::fstat(fd->get(), &info), 0);
        EXPECT_EQ(info.st_mode & 0777, 0600U); // and cannot be opened again by another user
    }
    // Flags that it sets are not the broker's.
    EXPECT_EQ(::fcntl(greeting->chunks.index.get(), F_SETFL, O_APPEND | O_NONBLOCK), 0);
    EXPECT_EQ(::fcntl(map_.get(), F_GETFL) & O_APPEND, 0);
    // What no server sends ends the connection and nothing else.
    must(protocol::send_control(connection.get(), protocol::encode(protocol::ControlType::Quit)));
    EXPECT_TRUE(until([&] {
        const auto message = protocol::receive_control(connection.get());
        return !message && message.error().code() == ECONNRESET;
    }));
    auto base = must(connect("a"));
    EXPECT_TRUE(is_right(*base, 0, 4096));
}

TEST_F(RootfsServing, WhatIsReleasedLeavesNothing) {
    start_daemon();
    const auto before = daemon_fds();
    write_config(fmt::format("FetchSocket={}", fetchd_->path()));
    ASSERT_EQ(serve("a"), "");
    be_server_of("a");
    auto base = must(connect("a"));
    EXPECT_TRUE(is_right(*base, 0, 4096));
    ASSERT_EQ(release("a"), "");
    EXPECT_TRUE(list().empty());
    EXPECT_NE(::access(path_of_socket("a").c_str(), F_OK), 0);
    EXPECT_TRUE(until([&] { return keeper_->count(".rootfs") == 0; }));
    EXPECT_EQ(keeper_->count(".rootfs-listen"), 0U);
    EXPECT_GT(daemon_fds(), before);       // the image's chunks are kept for the next
    EXPECT_TRUE(is_right(*base, 0, 4096)); // what is there is read to the end
    ASSERT_EQ(serve("a"), "");
    EXPECT_TRUE(is_right(*base, kChunk, 4096)); // by who has dialed in again
}

TEST_F(RootfsServing, TheBrokerDiesAndTheServerReadsOn) {
    start_daemon();
    ASSERT_EQ(serve("a"), "");
    be_server_of("a");
    auto base = must(connect("a"));
    EXPECT_TRUE(is_right(*base, 0, kChunk));
    for (std::uint64_t round = 1; round < 3; ++round) {
        kill_daemon();
        EXPECT_TRUE(is_right(*base, 4096 * round, 4096)); // nobody is needed for that
        auto waiting = std::async(std::launch::async, [&] {
            std::string bytes(kChunk, '?');
            const auto read = base->read(round * kChunk, std::as_writable_bytes(std::span(bytes)));
            return read && content_.compare(round * kChunk, kChunk, bytes) == 0;
        });
        start_daemon();
        EXPECT_EQ(list().size(), 1U);
        EXPECT_TRUE(until([&] {
            return waiting.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
        }));
        EXPECT_TRUE(waiting.get());
    }
}

TEST_F(RootfsServing, AChangedFileIsAnErrorAndNoMix) {
    start_daemon();
    ASSERT_EQ(serve("a"), "");
    be_server_of("a");
    auto base = must(connect("a"));
    EXPECT_TRUE(is_right(*base, 0, kChunk));
    const Fd writable = must(open_file(bus_daemon_->directory() + "/rootfs", O_WRONLY));
    ASSERT_EQ(::pwrite(writable.get(), "x", 1, kChunk + 5), 1);
    const auto read = beside([&] {
        std::vector<std::byte> bytes(4096);
        return base->read(kChunk, bytes);
    });
    ASSERT_FALSE(read);
    EXPECT_TRUE(is_right(*base, 8192, 4096));
}

} // namespace
} // namespace thaw::pagerd
