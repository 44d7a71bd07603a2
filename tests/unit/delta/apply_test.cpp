// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "fixture.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::delta::test {
namespace {

class Apply : public ::testing::Test {
protected:
    DeltaFile saved(const Model& model) {
        const std::string path = folder_ / std::to_string(++files_);
        EXPECT_TRUE(save(model, path));
        auto file = DeltaFile::open(path);
        EXPECT_TRUE(file);
        return std::move(*file);
    }
    Fd target() {
        return open_file(folder_ / std::to_string(++files_), O_RDWR | O_CREAT, 0600).value();
    }
    static Bytes read(const Fd& fd) {
        const auto text =
            read_fd(open_read("/proc/self/fd/" + std::to_string(fd.get())).get(), 1 << 30);
        EXPECT_TRUE(text);
        const auto bytes = std::as_bytes(std::span(*text));
        return {bytes.begin(), bytes.end()};
    }
    thaw::test::TemporaryDirectory folder_;
    std::mt19937_64 random_{4};
    unsigned files_ = 0;
};

// Sizes with a last block that is not whole, disks longer and shorter than their base, small and
// large blocks, few and many changes.
TEST_F(Apply, BaseAndDifferenceGiveTheDisk) {
    std::vector<ModelOptions> cases{
        {},
        {.base_size = 40 * 4096, .size = 40 * 4096 - 512},
        {.base_size = 40 * 4096 - 1024, .size = 55 * 4096},
        {.base_size = 77 * 4096, .size = 31 * 4096 + 512},
        {.base_size = 0, .size = 31 * 4096},
        {.base_size = 1000 * 512, .size = 1000 * 512, .block_size = 512},
        {.base_size = 9 << 20, .size = 9 << 20, .block_size = 1 << 20, .run = 2},
        {.base_size = 2000 * 4096, .size = 2000 * 4096, .dirty = 0.9, .zero = 0.05, .run = 400},
        {.dirty = 0},
        {.dirty = 1, .zero = 1},
    };
    for (const auto& options : cases)
        for (int round = 0; round < 5; ++round) {
            const Model model(options, random_);
            const auto file = saved(model);
            const Fd base = open_read(write_file(folder_ / "base", model.base));
            EXPECT_TRUE(check_base(base.get(), file.content().base, nullptr));
            const Fd out = target();
            const auto applied = apply_to_new(file, base.get(), out.get(), nullptr);
            ASSERT_TRUE(applied) << applied.error().message();
            ASSERT_TRUE(read(out) == model.disk) << options.size << " " << options.block_size;

            write_file(folder_ / "inplace", model.base);
            const Fd changed = open_file(folder_ / "inplace", O_RDWR).value();
            ASSERT_TRUE(apply_in_place(file, changed.get(), nullptr));
            ASSERT_TRUE(read(changed) == model.disk);
        }
}

TEST_F(Apply, ZeroBlocksBecomeHoles) {
    const Model model(
        {.base_size = 512 * 4096, .size = 512 * 4096, .dirty = 1, .zero = 1}, random_
    );
    const Fd base = open_read(write_file(folder_ / "base", model.base));
    const Fd out = target();
    ASSERT_TRUE(apply_to_new(saved(model), base.get(), out.get(), nullptr));
    struct stat st{};
    ASSERT_EQ(::fstat(out.get(), &st), 0);
    EXPECT_LT(st.st_blocks, 64);
}

TEST_F(Apply, AnotherBaseIsRefused) {
    const Model model({}, random_);
    const auto file = saved(model);
    Bytes other = model.base;
    other[12345] ^= std::byte{1};
    const Fd changed = open_read(write_file(folder_ / "b1", other));
    const auto content = check_base(changed.get(), file.content().base, nullptr);
    ASSERT_FALSE(content);
    EXPECT_EQ(content.error().code(), ESTALE);
    other.pop_back();
    const Fd shorter = open_read(write_file(folder_ / "b2", other));
    const auto size = check_base(shorter.get(), file.content().base, nullptr);
    ASSERT_FALSE(size);
    EXPECT_NE(size.error().message().find("163839 bytes where 163840"), std::string::npos);
    EXPECT_FALSE(check_base(open_read("/dev/zero").get(), file.content().base, nullptr));
    EXPECT_EQ(
        check_base(changed.get(), {.form = BaseForm::Image}, nullptr).error().code(), ENOTSUP
    );
}

// In place, damage anywhere must show before the first byte is changed.
TEST_F(Apply, ADamagedDifferenceNeverTouchesTheBase) {
    const Model model({.base_size = 4 << 20, .size = 4 << 20, .dirty = 0.9}, random_);
    ASSERT_TRUE(save(model, folder_ / "d"));
    Bytes bytes = contents(folder_ / "d");
    bytes.back() ^= std::byte{1};
    write_file(folder_ / "d", bytes);
    const auto file = DeltaFile::open(folder_ / "d");
    ASSERT_TRUE(file);
    write_file(folder_ / "base", model.base);
    const Fd base = open_file(folder_ / "base", O_RDWR).value();
    const auto applied = apply_in_place(*file, base.get(), nullptr);
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().code(), EBADMSG);
    EXPECT_TRUE(contents(folder_ / "base") == model.base);
    const Fd out = target();
    const auto fresh = apply_to_new(*file, base.get(), out.get(), nullptr);
    ASSERT_FALSE(fresh);
    EXPECT_EQ(fresh.error().code(), EBADMSG);
}

TEST_F(Apply, ProgressGoesForwardToTheWhole) {
    const Model model({.base_size = 3 << 20, .size = 3 << 20}, random_);
    const auto file = saved(model);
    const Fd base = open_read(write_file(folder_ / "base", model.base));
    std::uint64_t last = 0;
    std::uint64_t whole = 1;
    const auto watch = [&](std::uint64_t done, std::uint64_t total) {
        EXPECT_GE(done, last);
        last = done;
        whole = total;
        return true;
    };
    const Fd out = target();
    ASSERT_TRUE(apply_to_new(file, base.get(), out.get(), watch));
    EXPECT_EQ(last, whole);
    const auto stop = [](std::uint64_t, std::uint64_t) { return false; };
    EXPECT_EQ(apply_to_new(file, base.get(), target().get(), stop).error().code(), ECANCELED);
}

} // namespace
} // namespace thaw::delta::test
