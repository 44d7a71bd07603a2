// SPDX-License-Identifier: MIT

// rootfs export, import, compare, list, status against an overlay that is being written to.

#include "core/file.hpp"
#include "exit_codes.hpp"
#include "fakes/overlay_server.hpp"
#include "program.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <random>
#include <thread>

namespace thaw::ctl::testing {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kBlocks = 3000;

class RootfsVerbs : public ::testing::Test {
protected:
    RootfsVerbs() {
        std::string text(kBlocks * kBlock, 'b');
        for (std::size_t at = 0; at < text.size(); at += 97)
            text[at] = static_cast<char>(random_());
        disk_ = text;
        folder_.write("base", text);
        mkdir((folder_ / "run").c_str(), 0755);
        mkdir((folder_ / "run/web").c_str(), 0755);
        server_ = std::make_unique<fakes::OverlayServer>(fakes::OverlayServer::Setup{
            .name = "web",
            .socket = folder_ / "run/web/control",
            .base_path = folder_ / "base",
            .geometry = {.size = kBlocks * kBlock, .block_size = kBlock},
            .disk_path = folder_ / "spill",
            .memory_blocks = 700,
        });
    }
    // As a guest would; `disk_` keeps up. Every fifth is zeros.
    void write(std::uint64_t block) {
        std::string data(kBlock, '\0');
        if (random_() % 5 != 0)
            for (std::size_t at = 0; at < data.size(); at += 61)
                data[at] = static_cast<char>(random_() | 1);
        server_->write(block, std::as_bytes(std::span(data)), [&] {
            disk_.replace(block * kBlock, kBlock, data);
        });
    }
    ProgramResult run(std::vector<std::string> words, ProgramOptions options = {}) {
        options.silent_bus = true;
        words.insert(words.begin(), {"rootfs", "--runtime", folder_ / "run"});
        return run_thawctl(nullptr, words, options);
    }
    std::string file(const std::string& name) const {
        return read_file(folder_ / name, std::size_t{1} << 30).value_or("");
    }

    test::TemporaryDirectory folder_;
    std::mt19937_64 random_{5};
    std::string disk_; // what the guest sees
    std::unique_ptr<fakes::OverlayServer> server_;
};

TEST_F(RootfsVerbs, TheExportOverItsBaseIsTheDisk) {
    for (int i = 0; i < 1500; ++i)
        write(random_() % kBlocks);
    const auto saved = run({"export", "web", folder_ / "d"});
    ASSERT_EQ(saved.exit_code, kExitOk) << saved.err;
    EXPECT_NE(saved.out.find("Exported \"web\" to"), std::string::npos) << saved.out;
    const auto made = run({"import", folder_ / "d", "--base", folder_ / "base", folder_ / "disk"});
    ASSERT_EQ(made.exit_code, kExitOk) << made.err;
    EXPECT_TRUE(file("disk") == disk_);
    EXPECT_EQ(
        run({"compare", folder_ / "d", folder_ / "disk", "--base", folder_ / "base"}).exit_code, 0
    );
    EXPECT_EQ(run({"compare", folder_ / "disk", folder_ / "base"}).exit_code, 1);
    EXPECT_EQ(run({"compare", folder_ / "d", folder_ / "disk"}).exit_code, 2);
    EXPECT_EQ(run({"compare", folder_ / "d", folder_ / "d"}).exit_code, 0);

    const auto changed =
        run({"import", folder_ / "d", "--base", folder_ / "base", "--in-place", "--json=short"});
    ASSERT_EQ(changed.exit_code, kExitOk) << changed.err;
    EXPECT_TRUE(file("base") == disk_);
    EXPECT_EQ(nlohmann::json::parse(changed.out)["disk"], folder_ / "base");
}

// What is written meanwhile is in the next export, never in this one.
TEST_F(RootfsVerbs, AnExportWhileTheGuestWritesIsOneMoment) {
    for (int i = 0; i < 1000; ++i)
        write(random_() % kBlocks);
    std::string moment;
    std::atomic<bool> stop = false;
    // Writes all the time; what the disk was when the point was taken is what counts.
    server_->on_point([&] { moment = disk_; });
    std::thread guest([&] {
        while (!stop)
            write(random_() % kBlocks);
    });
    const auto saved = run({"export", "web", folder_ / "d"});
    stop = true;
    guest.join();
    ASSERT_EQ(saved.exit_code, kExitOk) << saved.err;
    const auto made = run({"import", folder_ / "d", "--base", folder_ / "base", folder_ / "disk"});
    ASSERT_EQ(made.exit_code, kExitOk) << made.err;
    EXPECT_TRUE(file("disk") == moment);
    EXPECT_FALSE(file("disk") == disk_);
}

TEST_F(RootfsVerbs, AnotherBaseIsRefused) {
    write(7);
    ASSERT_EQ(run({"export", "web", folder_ / "d"}).exit_code, kExitOk);
    std::string other = file("base");
    other[5000] ^= 1;
    folder_.write("other", other);
    const auto refused =
        run({"import", folder_ / "d", "--base", folder_ / "other", folder_ / "disk"});
    EXPECT_EQ(refused.exit_code, kExitFailure);
    EXPECT_NE(refused.err.find("another base"), std::string::npos) << refused.err;
    EXPECT_NE(access((folder_ / "disk").c_str(), F_OK), 0);
    const auto missing = run({"import", folder_ / "d", folder_ / "disk"});
    EXPECT_EQ(missing.exit_code, kExitFailure);
    EXPECT_NE(missing.err.find("name it with --base"), std::string::npos) << missing.err;
}

TEST_F(RootfsVerbs, NothingIsLeftOfWhatFails) {
    for (std::uint64_t block = 0; block < 50; ++block)
        write(block);
    folder_.write("taken", "mine");
    const auto taken = run({"export", "web", folder_ / "taken"});
    EXPECT_EQ(taken.exit_code, kExitFailure);
    EXPECT_EQ(file("taken"), "mine");
    EXPECT_EQ(run({"export", "web", folder_ / "taken", "--force"}).exit_code, kExitOk);
    EXPECT_NE(file("taken"), "mine");
    const auto entries = folder_.entries();
    EXPECT_EQ(run({"export", "none", folder_ / "d"}).exit_code, kExitNotFound);
    EXPECT_EQ(run({"export", "web", folder_ / "no/d"}).exit_code, kExitNotFound);
    std::string damaged = file("taken");
    damaged.back() = static_cast<char>(damaged.back() ^ 1);
    folder_.write("taken", damaged);
    const auto refused =
        run({"import", folder_ / "taken", "--base", folder_ / "base", folder_ / "disk"});
    EXPECT_EQ(refused.exit_code, kExitFailure);
    EXPECT_NE(refused.err.find("damaged"), std::string::npos) << refused.err;
    EXPECT_EQ(run({"compare", folder_ / "taken", folder_ / "taken"}).exit_code, 2);
    EXPECT_EQ(folder_.entries(), entries);
}

TEST_F(RootfsVerbs, ListStatusAndShow) {
    write(1);
    write(2);
    mkdir((folder_ / "run/gone").c_str(), 0755);
    const auto list = run({"list", "--no-legend"});
    EXPECT_EQ(list.exit_code, kExitOk) << list.err;
    EXPECT_TRUE(list.out.starts_with("web")) << list.out;
    EXPECT_EQ(std::ranges::count(list.out, '\n'), 1);
    const auto json = nlohmann::json::parse(run({"list", "--json=short"}).out);
    EXPECT_EQ(json[0]["name"], "web");
    const auto status = run({"status", "web"});
    EXPECT_NE(status.out.find("of 2.7M"), std::string::npos) << status.out;
    EXPECT_EQ(run({"status", "gone"}).exit_code, kExitNotFound);
    ASSERT_EQ(run({"export", "web", folder_ / "d"}).exit_code, kExitOk);
    const auto show = nlohmann::json::parse(run({"show", folder_ / "d", "--json=short"}).out);
    EXPECT_EQ(show["kind"], "disk");
    EXPECT_EQ(show["size"], kBlocks * kBlock);
    EXPECT_EQ(show["data_blocks"].get<unsigned>() + show["zero_blocks"].get<unsigned>(), 2U);
}

TEST_F(RootfsVerbs, AKilledExportReleasesThePointAndLeavesNothing) {
    for (std::uint64_t block = 0; block < kBlocks; ++block)
        write(block);
    const auto entries = folder_.entries();
    const auto killed = run({"export", "web", folder_ / "d"}, {.meanwhile = [&](pid_t child) {
                                if (server_->point_held()) kill(child, SIGKILL);
                            }});
    // It may have been faster than the looks at it.
    if (killed.exit_code == 128 + SIGKILL) {
        EXPECT_EQ(folder_.entries(), entries);
    }
    for (int i = 0; i < 100 && server_->point_held(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(server_->point_held());
    EXPECT_EQ(run({"export", "web", folder_ / "again"}).exit_code, kExitOk);
}

} // namespace
} // namespace thaw::ctl::testing
