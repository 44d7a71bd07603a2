// SPDX-License-Identifier: MIT

// image push, add-remote and pull with the real thawctl, thaw-fetchd and nginx.

#include "core/file.hpp"
#include "fakes/must.hpp"
#include "fakes/socket_activated.hpp"
#include "fakes/web_lab.hpp"
#include "image/store.hpp"
#include "program.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>

namespace thaw::ctl {
namespace {

constexpr std::size_t kMemory = 12 << 20;
constexpr std::size_t kRootfs = (4 << 20) + 2 * 4096;

class RemoteVerbs : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        if (!fakes::WebLab::available()) return;
        web_folder_ = std::make_unique<test::TemporaryDirectory>();
        web_ = fakes::must(fakes::WebLab::create(web_folder_->path(), FAULT_PROXY));
    }
    static void TearDownTestSuite() {
        web_.reset();
        web_folder_.reset();
    }
    void SetUp() override {
        if (!web_) GTEST_SKIP() << "needs nginx, python3 and openssl";
        web_->clear();
        web_->forget();
        std::filesystem::remove_all(web_->www("/web"));
        loop_.emplace(fakes::must(EventLoop::create()));
        folder_.write("fetchd.conf", "[Fetch]\nStallTimeoutSec=500ms\n");
        service_ = fakes::must(fakes::SocketActivated::create(
            *loop_, folder_ / "fetch.sock", SOCK_SEQPACKET,
            {.program = FETCHD,
             .descriptors = {},
             .environment = {{"THAW_FETCHD_CONFIG", folder_ / "fetchd.conf"}},
             .log = -1}
        ));
        std::filesystem::create_directories(folder_ / "images");
        folder_.write("vm.state", "the state of a VM");
        memory_ = std::string(kMemory, '\0');
        std::minstd_rand random(7);
        // The second of three chunks is zero but for one page.
        for (std::size_t at = 0; at < kMemory; ++at)
            if (at < (4U << 20) || at >= (8U << 20) || at / 4096 == 1500)
                memory_[at] = static_cast<char>(random() >> 8);
        folder_.write("vm.memory", memory_);
        import("web", {});
    }
    void import(const std::string& name, const std::vector<std::string>& more) {
        std::vector<std::string> words{"image",
                                       "import",
                                       name,
                                       "--state",
                                       folder_ / "vm.state",
                                       "--memory",
                                       folder_ / "vm.memory"};
        words.insert(words.end(), more.begin(), more.end());
        const auto imported = run(words);
        ASSERT_EQ(imported.exit_code, 0) << imported.err;
    }
    // Puts an image with a root file system on the server.
    void push_with_rootfs() {
        rootfs_ = std::string(kRootfs, 'r');
        std::fill_n(rootfs_.begin() + 100 * 4096, 500 * 4096, '\0');
        folder_.write("root.ext4", rootfs_);
        import("disk", {"--rootfs", folder_ / "root.ext4"});
        const auto pushed = run({"image", "push", "disk", web_->url("/web")});
        ASSERT_EQ(pushed.exit_code, 0) << pushed.err;
    }
    void TearDown() override {
        service_.reset();
        loop_.reset();
    }
    testing::ProgramResult
    run(std::vector<std::string> words, std::function<void(pid_t)> meanwhile = {}) {
        words.insert(words.begin(), {"--image-root", folder_ / "images"});
        const std::string verb = words[3];
        if (verb == "add-remote" || verb == "pull" || verb == "push")
            words.insert(words.end(), {"--fetch-socket", service_->path()});
        return testing::run_thawctl(
            &*loop_, words, {.silent_bus = true, .meanwhile = std::move(meanwhile)}
        );
    }
    image::Store store() const { return image::Store(folder_ / "images"); }
    std::string file_of(const std::string& image, const std::string& name) const {
        return fakes::must(read_file(folder_ / ("images/" + image + "/" + name), kMemory));
    }
    std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const auto& entry : std::filesystem::directory_iterator(folder_ / "images"))
            found.push_back(entry.path().filename());
        std::ranges::sort(found);
        return found;
    }
    // Bytes of ranges of an object that were asked for through the proxy.
    static std::uint64_t fetched(const std::string& path) {
        std::uint64_t bytes = 0;
        for (const auto& request : web_->requests()) {
            if (request["path"] != path) continue;
            const auto range = request["range"].get<std::string>().substr(6);
            bytes += std::stoull(range.substr(range.find('-') + 1)) - std::stoull(range) + 1;
        }
        return bytes;
    }
    void push() { ASSERT_EQ(run({"image", "push", "web", web_->url("/web")}).exit_code, 0); }
    void add(const std::string& url) {
        const auto added = run({"image", "add-remote", "far", url});
        ASSERT_EQ(added.exit_code, 0) << added.err;
    }

    static inline std::unique_ptr<test::TemporaryDirectory> web_folder_;
    static inline std::unique_ptr<fakes::WebLab> web_;
    test::TemporaryDirectory folder_;
    std::optional<EventLoop> loop_;
    std::unique_ptr<fakes::SocketActivated> service_;
    std::string memory_;
    std::string rootfs_;
};

TEST_F(RemoteVerbs, PushAddPull) {
    const auto pushed = run({"image", "push", "web", web_->proxied("/web")});
    ASSERT_EQ(pushed.exit_code, 0) << pushed.err;
    EXPECT_NE(pushed.out.find("Pushed image \"web\""), std::string::npos);
    EXPECT_TRUE(fakes::must(read_file(web_->www("/web/memory"), kMemory)) == memory_);
    // The memory first, the manifest last.
    std::vector<std::string> puts;
    for (const auto& request : web_->requests())
        if (request["method"] == "PUT") puts.push_back(request["path"]);
    ASSERT_EQ(puts.size(), 4U);
    EXPECT_EQ(puts.front(), "/web/memory");
    EXPECT_EQ(puts.back(), "/web/image.json");
    const auto again = run({"image", "push", "web", web_->url("/web")});
    EXPECT_EQ(again.exit_code, 1);
    EXPECT_NE(again.err.find("--force"), std::string::npos) << again.err;

    const auto added = run({"image", "add-remote", "far", web_->url("/web/")});
    ASSERT_EQ(added.exit_code, 0) << added.err;
    const auto far = store().open("far", image::Store::Remote::Allow);
    ASSERT_TRUE(far) << far.error().message();
    ASSERT_TRUE(far->manifest.source);
    EXPECT_EQ(far->manifest.source->memory.url, web_->url("/web/memory"));
    EXPECT_EQ(far->manifest.source->memory.identity.length, kMemory);
    EXPECT_FALSE(far->manifest.source->memory.identity.etag.empty());
    EXPECT_NE(::access((folder_ / "images/far/memory").c_str(), F_OK), 0);
    const auto shown = run({"image", "show", "far"});
    EXPECT_EQ(shown.exit_code, 0) << shown.err;
    EXPECT_NE(shown.out.find("Remote: " + web_->url("/web/memory")), std::string::npos)
        << shown.out;
    EXPECT_NE(run({"image", "verify", "far"}).err.find("pull it first"), std::string::npos);

    const auto pulled = run({"image", "pull", "far"});
    ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
    EXPECT_TRUE(file_of("far", "memory") == memory_);
    EXPECT_EQ(run({"image", "verify", "far"}).exit_code, 0);
    EXPECT_EQ(file_of("far", "image.json"), file_of("web", "image.json"));
}

TEST_F(RemoteVerbs, ARootFileSystemGoesAlong) {
    push_with_rootfs();
    EXPECT_TRUE(fakes::must(read_file(web_->www("/web/rootfs"), kRootfs)) == rootfs_);
    const auto added = run({"image", "add-remote", "far", web_->proxied("/web")});
    ASSERT_EQ(added.exit_code, 0) << added.err;
    EXPECT_NE(added.out.find("and 4.0M of root file system"), std::string::npos) << added.out;
    EXPECT_EQ(file_of("far", "rootfs.map"), file_of("disk", "rootfs.map"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "images/far/rootfs"));
    const auto shown = run({"image", "show", "far"});
    EXPECT_NE(shown.out.find("Rootfs: " + web_->proxied("/web/rootfs")), std::string::npos)
        << shown.out;
    web_->forget();
    const auto pulled = run({"image", "pull", "far"});
    ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
    EXPECT_EQ(fetched("/web/rootfs"), kRootfs - 500UL * 4096);
    EXPECT_TRUE(file_of("far", "rootfs") == rootfs_);
    EXPECT_EQ(run({"image", "verify", "far"}).exit_code, 0);
    EXPECT_EQ(file_of("far", "image.json"), file_of("disk", "image.json"));
}

TEST_F(RemoteVerbs, ADamagedRootFileSystemIsRefused) {
    push_with_rootfs();
    auto damaged = rootfs_;
    damaged[1025 * 4096] = '!';
    // One length, one date: only the checksums can tell.
    const auto date = std::filesystem::last_write_time(web_->www("/web/rootfs"));
    ASSERT_TRUE(write_file_atomic(web_->www("/web/rootfs"), damaged));
    std::filesystem::last_write_time(web_->www("/web/rootfs"), date);
    add(web_->url("/web"));
    const auto refused = run({"image", "pull", "far"});
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.err.find("/web/rootfs: rootfs: page 1025 "), std::string::npos)
        << refused.err;
    EXPECT_TRUE(store().open("far", image::Store::Remote::Allow)->manifest.source);
    for (const char* name : {"memory", "rootfs"})
        EXPECT_FALSE(std::filesystem::exists(folder_ / "images/far/" + name)) << name;
    EXPECT_EQ(run({"image", "clean"}).out, "0 leftovers removed.\n");
    ASSERT_TRUE(write_file_atomic(web_->www("/web/rootfs"), rootfs_));
    std::filesystem::last_write_time(web_->www("/web/rootfs"), date);
    EXPECT_EQ(run({"image", "pull", "far"}).exit_code, 0);
    EXPECT_TRUE(file_of("far", "rootfs") == rootfs_);
}

TEST_F(RemoteVerbs, AnotherRootFileSystemIsNotAdded) {
    push_with_rootfs();
    ASSERT_EQ(truncate(web_->www("/web/rootfs").c_str(), 4 << 20), 0);
    const auto shorter = run({"image", "add-remote", "far", web_->url("/web")});
    EXPECT_EQ(shorter.exit_code, 1);
    EXPECT_NE(shorter.err.find("source.rootfs.length"), std::string::npos) << shorter.err;
    std::filesystem::remove(web_->www("/web/rootfs"));
    EXPECT_EQ(run({"image", "add-remote", "far", web_->url("/web")}).exit_code, 3);
    ASSERT_TRUE(write_file_atomic(web_->www("/web/rootfs"), rootfs_));
    auto map = fakes::must(read_file(web_->www("/web/rootfs.map"), kRootfs));
    map[200] = static_cast<char>(map[200] ^ 1);
    ASSERT_TRUE(write_file_atomic(web_->www("/web/rootfs.map"), map));
    const auto bad_map = run({"image", "add-remote", "far", web_->url("/web")});
    EXPECT_EQ(bad_map.exit_code, 1);
    EXPECT_NE(bad_map.err.find("rootfs.map: is not the sealed one"), std::string::npos)
        << bad_map.err;
    EXPECT_EQ(names(), (std::vector<std::string>{"disk", "web"}));
}

TEST_F(RemoteVerbs, PullFetchesNoZeroPages) {
    push();
    add(web_->proxied("/web"));
    web_->forget();
    const auto pulled = run({"image", "pull", "far"});
    ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
    EXPECT_EQ(fetched("/web/memory"), (8U << 20) + 4096);
}

TEST_F(RemoteVerbs, CorruptPagesAreFetchedAgainAndThenRefused) {
    push();
    add(web_->proxied("/web"));
    web_->spoil({.kind = "corrupt", .count = 1, .after = 8192});
    const auto pulled = run({"image", "pull", "far"});
    ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
    EXPECT_TRUE(file_of("far", "memory") == memory_);

    ASSERT_EQ(run({"image", "rm", "far", "--force"}).exit_code, 0);
    add(web_->proxied("/web"));
    web_->spoil({.kind = "corrupt", .after = 8192});
    const auto refused = run({"image", "pull", "far"});
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.err.find("is not the sealed one"), std::string::npos) << refused.err;
    // It is the remote image that it was.
    EXPECT_TRUE(store().open("far", image::Store::Remote::Allow)->manifest.source);
    EXPECT_EQ(std::filesystem::exists(folder_ / "images/far/memory"), false);
    web_->clear();
    EXPECT_EQ(run({"image", "pull", "far"}).exit_code, 0);
}

TEST_F(RemoteVerbs, AnObjectThatChangedIsSaid) {
    push();
    add(web_->url("/web"));
    auto other = memory_;
    other[0] = static_cast<char>(other[0] ^ 1);
    ASSERT_TRUE(write_file_atomic(web_->www("/web/memory"), other));
    const auto later = std::filesystem::file_time_type::clock::now() + std::chrono::seconds(10);
    std::filesystem::last_write_time(web_->www("/web/memory"), later);
    const auto refused = run({"image", "pull", "far"});
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.err.find("the object has changed"), std::string::npos) << refused.err;
}

TEST_F(RemoteVerbs, WhatIsNoImageIsNotAdded) {
    const auto before = names();
    EXPECT_EQ(run({"image", "add-remote", "far", "http://127.0.0.1:1/x"}).exit_code, 5);
    const auto nothing = run({"image", "add-remote", "far", web_->url("/web")});
    EXPECT_EQ(nothing.exit_code, 3) << nothing.err;
    push();
    std::filesystem::rename(web_->www("/web/memory.map"), web_->www("/web/elsewhere"));
    const auto no_map = run({"image", "add-remote", "far", web_->url("/web")});
    EXPECT_EQ(no_map.exit_code, 3) << no_map.err;
    EXPECT_NE(no_map.err.find("memory.map"), std::string::npos) << no_map.err;
    std::filesystem::rename(web_->www("/web/elsewhere"), web_->www("/web/memory.map"));
    auto state = fakes::must(read_file(web_->www("/web/vmstate")));
    state[0] = '!';
    ASSERT_TRUE(write_file_atomic(web_->www("/web/vmstate"), state));
    const auto bad_state = run({"image", "add-remote", "far", web_->url("/web")});
    EXPECT_EQ(bad_state.exit_code, 1);
    EXPECT_NE(bad_state.err.find("vmstate: is not the sealed one"), std::string::npos)
        << bad_state.err;
    EXPECT_EQ(run({"image", "add-remote", "far", "ftp://127.0.0.1/web"}).exit_code, 1);
    EXPECT_EQ(names(), before);
}

TEST_F(RemoteVerbs, AFolderOnASlowFileSystemIsASourceToo) {
    push();
    add("file://" + web_->www("/web"));
    const auto pulled = run({"image", "pull", "far"});
    ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
    EXPECT_TRUE(file_of("far", "memory") == memory_);
}

TEST_F(RemoteVerbs, CtrlCLeavesNothing) {
    push();
    add(web_->proxied("/web"));
    web_->forget();
    web_->spoil({.kind = "slow", .value = "300000"});
    bool sent = false;
    const auto stopped = run({"image", "pull", "far"}, [&](pid_t pid) {
        if (!sent && web_->request_count() > 2) sent = ::kill(pid, SIGINT) == 0;
    });
    EXPECT_TRUE(sent);
    EXPECT_EQ(stopped.exit_code, 7) << stopped.err;
    web_->clear();
    EXPECT_EQ(run({"image", "clean"}).out, "0 leftovers removed.\n");
    EXPECT_EQ(run({"image", "pull", "far"}).exit_code, 0);
}

TEST_F(RemoteVerbs, ThePullSurvivesTheDeathOfTheFetcher) {
    push();
    add(web_->proxied("/web"));
    web_->forget();
    web_->spoil({.kind = "slow", .value = "4000000"});
    bool killed = false;
    const auto pulled = run({"image", "pull", "far"}, [&](pid_t) {
        if (killed || web_->request_count() < 3) return;
        killed = true;
        service_->kill(SIGKILL);
    });
    EXPECT_TRUE(killed);
    ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
    EXPECT_TRUE(file_of("far", "memory") == memory_);
    EXPECT_EQ(service_->starts(), 2U);
}

} // namespace
} // namespace thaw::ctl
