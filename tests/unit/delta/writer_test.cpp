// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "fixture.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

namespace thaw::delta::test {
namespace {

class Writer : public ::testing::Test {
protected:
    thaw::test::TemporaryDirectory folder_;
    std::mt19937_64 random_{20};
};

TEST_F(Writer, WhatIsReadIsWhatWasWritten) {
    const Model model({.base_size = 400 * 4096, .size = 400 * 4096}, random_);
    auto written = save(model, folder_ / "d");
    ASSERT_TRUE(written) << written.error().message();
    const auto file = DeltaFile::open(folder_ / "d");
    ASSERT_TRUE(file) << file.error().message();
    const Delta& read = file->content();
    EXPECT_EQ(read.runs, written->runs);
    EXPECT_EQ(read.checks, written->checks);
    EXPECT_EQ(read.base, model.description().base);
    EXPECT_EQ(read.id, model.description().id);
    EXPECT_EQ(read.created, 77U);
    EXPECT_EQ(read.data_offset % kDataAlignment, 0U);
    EXPECT_GT(read.data_blocks, 0U);
    EXPECT_GT(read.zero_blocks, 0U);
    EXPECT_TRUE(file->verify(nullptr));
}

TEST_F(Writer, OnlyChangedBlocksTakeSpace) {
    const Model model({.base_size = 4000 * 4096, .size = 4000 * 4096, .dirty = 0.01}, random_);
    const auto written = save(model, folder_ / "d");
    ASSERT_TRUE(written);
    EXPECT_LT(written->data_blocks, 200U);
    struct stat st{};
    ASSERT_EQ(::stat((folder_ / "d").c_str(), &st), 0);
    EXPECT_EQ(
        static_cast<std::uint64_t>(st.st_size), written->data_offset + written->data_blocks * 4096
    );
}

TEST_F(Writer, NeighboursBecomeOneRunWhereverTheyLie) {
    const Fd a(::memfd_create("a", MFD_CLOEXEC));
    const Fd b(::memfd_create("b", MFD_CLOEXEC));
    ASSERT_TRUE(write_all(a.get(), std::string(8192, 'a')));
    ASSERT_TRUE(write_all(b.get(), std::string(8192, 'b')));
    Delta what;
    what.geometry = {.size = 10 * 4096, .block_size = 4096};
    const std::vector<SourceRun> sources{
        {.first_block = 1, .count = 1, .fd = a.get(), .offset = 4096},
        {.first_block = 2, .count = 2, .fd = b.get()},
        {.first_block = 4, .count = 1},
        {.first_block = 5, .count = 1},
        {.first_block = 7, .count = 1},
    };
    const Fd target(::memfd_create("t", MFD_CLOEXEC));
    const auto written = write_delta(target.get(), what, sources, nullptr);
    ASSERT_TRUE(written) << written.error().message();
    const std::vector<DeltaRun> runs{
        {.first_block = 1, .count = 3, .kind = RunKind::Data},
        {.first_block = 4, .count = 2, .kind = RunKind::Zero},
        {.first_block = 7, .count = 1, .kind = RunKind::Zero},
    };
    EXPECT_EQ(written->runs, runs);
    std::array<std::byte, 3> edges{};
    ASSERT_TRUE(pread_exact(target.get(), std::span(edges).first(2), written->data_offset + 4095));
    EXPECT_EQ(edges[0], std::byte{'a'});
    EXPECT_EQ(edges[1], std::byte{'b'});
}

TEST_F(Writer, RunsOutOfOrderAreRefused) {
    Delta what;
    what.geometry = {.size = 10 * 4096, .block_size = 4096};
    const Fd target(::memfd_create("t", MFD_CLOEXEC));
    for (const std::vector<SourceRun>& sources : {
             std::vector<SourceRun>{{.first_block = 5, .count = 1}, {.first_block = 3, .count = 1}},
             std::vector<SourceRun>{{.first_block = 3, .count = 3}, {.first_block = 5, .count = 1}},
             std::vector<SourceRun>{{.first_block = 9, .count = 2}},
             std::vector<SourceRun>{{.first_block = 9, .count = 0}},
         }) {
        const auto written = write_delta(target.get(), what, sources, nullptr);
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code(), EBADMSG);
    }
}

// A source that ends early must never become zeros, nor a loop without end.
TEST_F(Writer, ASourceThatIsTooShortIsAnError) {
    const Fd source(::memfd_create("s", MFD_CLOEXEC));
    ASSERT_TRUE(write_all(source.get(), std::string(300000, 's')));
    Delta what;
    what.geometry = {.size = 1000 * 4096, .block_size = 4096};
    for (const std::uint32_t count : {74U, 400U}) { // gathered, and by the kernel
        const std::vector<SourceRun> sources{
            {.first_block = 0, .count = count, .fd = source.get(), .offset = 0}
        };
        const Fd target(::memfd_create("t", MFD_CLOEXEC));
        const auto written = write_delta(target.get(), what, sources, nullptr);
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code(), EIO);
        EXPECT_NE(written.error().message().find("truncated"), std::string::npos);
    }
}

TEST_F(Writer, CanBeCanceled) {
    const Model model({}, random_);
    auto file = OutputFile::create(folder_ / "d", Existing::Refuse);
    ASSERT_TRUE(file);
    unsigned calls = 0;
    const auto written = write_delta(
        file->fd(), model.description(), model.sources,
        [&](std::uint64_t, std::uint64_t) { return ++calls < 3; }
    );
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), ECANCELED);
}

TEST_F(Writer, ALimitOfTheFileSizeIsToldAtOnce) {
    const Model model({}, random_);
    const Delta what = model.description();
    auto file = OutputFile::create(folder_ / "d", Existing::Refuse);
    ASSERT_TRUE(file);
    rlimit old{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
    const auto handler = ::signal(SIGXFSZ, SIG_IGN);
    rlimit little = old;
    little.rlim_cur = 8192;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &little), 0);
    unsigned told = 0;
    const auto written =
        write_delta(file->fd(), what, model.sources, [&](std::uint64_t, std::uint64_t) {
            return ++told > 0;
        });
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
    ::signal(SIGXFSZ, handler);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), EFBIG);
    EXPECT_EQ(told, 1U); // before anything was copied
}

TEST_F(Writer, NotesAndStateComeAlong) {
    Delta what;
    what.kind = DeltaKind::Memory;
    what.geometry = {.size = 4096, .block_size = 4096};
    what.notes = "{\"vmm\":\"x\"}";
    what.state = Bytes(5000, std::byte{7});
    Fd target(::memfd_create("t", MFD_CLOEXEC));
    ASSERT_TRUE(write_delta(target.get(), what, {}, nullptr));
    const auto file = DeltaFile::load(std::move(target));
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_EQ(file->content().kind, DeltaKind::Memory);
    EXPECT_EQ(file->content().notes, what.notes);
    EXPECT_EQ(file->content().state, what.state);
    EXPECT_EQ(file->content().data_bytes, 0U);
}

} // namespace
} // namespace thaw::delta::test
