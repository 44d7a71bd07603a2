// SPDX-License-Identifier: MIT

// SIGKILL at any moment and a full file system: the whole image or nothing.

#include "core/text.hpp"
#include "fixture.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>

namespace thaw::image {
namespace {

using testing::expect_sample;
using testing::kMemorySize;
using testing::sample_memory;
using testing::sample_rootfs;

class Crash : public testing::StoreTest {
protected:
    // Runs `work` in a child that is killed after `delay`; true when it was done before.
    template <class Work>
    static bool kill_after(Microseconds delay, Work work) {
        const pid_t child = fork();
        if (child == 0) _exit(work() ? 0 : 1);
        usleep(static_cast<useconds_t>(delay));
        kill(child, SIGKILL);
        int status = 0;
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        return WIFEXITED(status);
    }
    template <class Work>
    static Microseconds duration_of(Work work) {
        const auto start = now_monotonic();
        work();
        return now_monotonic() - start;
    }
    std::mt19937 random_{20240229};
};

TEST_F(Crash, KilledImportIsWholeOrNothing) {
    const auto usual = duration_of([&] { import_with_rootfs("web"); });
    ASSERT_TRUE(store_.remove("web"));
    unsigned whole = 0;
    unsigned leftovers = 0;
    for (int round = 0; round < 60; round++) {
        const auto delay = std::uniform_int_distribution<Microseconds>(0, usual * 5 / 4)(random_);
        kill_after(delay, [&] {
            return store_.import("web", source_with_rootfs(), {}).has_value();
        });
        const auto entries = root_entries();
        const bool visible = std::ranges::count(entries, "web") == 1;
        ASSERT_EQ(store_.open("web").has_value(), visible) << "visible but not whole";
        if (visible) expect_sample(store_, "web");
        const auto removed = store_.clean();
        ASSERT_TRUE(removed) << removed.error().message();
        ASSERT_EQ(*removed, entries.size() - (visible ? 1 : 0));
        leftovers += *removed;
        whole += visible ? 1 : 0;
        ASSERT_TRUE(!visible || store_.remove("web"));
        ASSERT_TRUE(root_entries().empty());
    }
    EXPECT_GT(leftovers, 0U) << "no kill hit the import";
    EXPECT_LT(whole, 60U);
}

TEST_F(Crash, KilledMoveLosesNothing) {
    auto from = source_with_rootfs();
    from.move = true;
    for (int round = 0; round < 40; round++) {
        const auto delay = std::uniform_int_distribution<Microseconds>(0, 20000)(random_);
        kill_after(delay, [&] { return store_.import("web", from, {}).has_value(); });
        ASSERT_TRUE(store_.clean());
        if (store_.open("web")) {
            expect_sample(store_, "web");
            ASSERT_TRUE(store_.remove("web"));
            put(path("state"), "the state of the machine, as the VMM wrote it");
            put(path("memory"), sample_memory());
            put(path("rootfs"), sample_rootfs());
        } else {
            ASSERT_EQ(get(path("memory")), sample_memory());
            ASSERT_EQ(get(path("rootfs")), sample_rootfs());
        }
    }
}

TEST_F(Crash, KilledSealCanBeRepeated) {
    Manifest given;
    given.rootfs.emplace();
    for (int round = 0; round < 30; round++) {
        ASSERT_TRUE(make_directories(path("images/raw")));
        put(in_image("raw", "vmstate"), get(path("state")));
        put(in_image("raw", "memory"), sample_memory());
        put(in_image("raw", "rootfs"), sample_rootfs());
        const auto delay = std::uniform_int_distribution<Microseconds>(0, 15000)(random_);
        kill_after(delay, [&] { return store_.seal("raw", given, {}).has_value(); });
        if (!store_.open("raw")) {
            const auto again = store_.seal("raw", given, {});
            ASSERT_TRUE(again) << again.error().message();
        }
        expect_sample(store_, "raw");
        ASSERT_EQ(
            std::distance(
                std::filesystem::directory_iterator(path("images/raw")),
                std::filesystem::directory_iterator()
            ),
            6
        );
        ASSERT_TRUE(store_.remove("raw"));
    }
}

TEST_F(Crash, KilledRemoveIsFinishedByClean) {
    for (int round = 0; round < 30; round++) {
        import_sample("web");
        const auto delay = std::uniform_int_distribution<Microseconds>(0, 3000)(random_);
        kill_after(delay, [&] { return store_.remove("web").has_value(); });
        ASSERT_TRUE(!store_.open("web") || store_.remove("web"));
        ASSERT_TRUE(store_.clean());
        ASSERT_TRUE(root_entries().empty());
    }
}

// The next import clears up after a killed one, but not under one that is still at work.
TEST_F(Crash, ImportCleansOnlyBehindTheDead) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        const auto wait = [&](std::uint64_t done, std::uint64_t) {
            if (done >= kMemorySize && write(ready[1], "x", 1) == 1) pause();
            return true;
        };
        (void)store_.import("slow", source(), wait);
        _exit(0);
    }
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    import_sample("quick");
    EXPECT_EQ(root_entries().size(), 2U);
    EXPECT_EQ(*store_.clean(), 0U);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    import_sample("next");
    EXPECT_EQ(root_entries(), (std::vector<std::string>{"next", "quick"}));
    close(ready[0]);
    close(ready[1]);
}

// In a mount namespace of its own: an import into a file system that fills up at some point.
int import_into_small(const Store::Source& from, const std::string& root, unsigned kilobytes) {
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)
        return 77;
    const auto options = fmt::format("size={}k", kilobytes);
    if (mount("tmpfs", root.c_str(), "tmpfs", 0, options.c_str()) < 0) return 77;
    const Store store(root);
    const auto imported = store.import("web", from, {});
    const bool empty = std::filesystem::is_empty(root);
    if (imported) return store.verify("web", {}) ? 1 : 2;
    if (imported.error().code() != ENOSPC) {
        fmt::print(stderr, "{}\n", imported.error().message());
        return 3;
    }
    return empty ? 0 : 4;
}

TEST_F(Crash, FullFileSystemLeavesNothing) {
    unsigned full = 0;
    unsigned fitted = 0;
    std::vector<unsigned> sizes{8, 64, 1024, 4096};
    for (unsigned size = 6140; size <= 6200; size += 4) // around the end: state, map, manifest
        sizes.push_back(size);
    for (const unsigned size : sizes) {
        const pid_t child = fork();
        if (child == 0) _exit(import_into_small(source(), path("images"), size));
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "may not mount";
        ASSERT_LE(WEXITSTATUS(status), 1) << "file system of " << size << " KiB";
        (WEXITSTATUS(status) == 0 ? full : fitted)++;
    }
    EXPECT_GT(full, 4U);
    EXPECT_GT(fitted, 0U);
}

} // namespace
} // namespace thaw::image
