// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "core/kernel_compat.hpp"
#include "core/scm.hpp"
#include "core/text.hpp"
#include "event/uring.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <array>

namespace thaw {
namespace {

class UringTest : public testing::Test {
protected:
    void SetUp() override {
        auto ring = Uring::create(4, 0);
        if (!ring && (ring.error().code() == EPERM || ring.error().code() == ENOSYS))
            GTEST_SKIP() << "io_uring is not allowed here";
        ASSERT_TRUE(ring) << ring.error().message();
        ring_ = std::make_unique<Uring>(std::move(*ring));
    }

    std::unique_ptr<Uring> ring_;
};

TEST_F(UringTest, ReadsAndWaits) {
    const auto [a, b] = make_seqpacket_pair(false).value();
    std::array<char, 8> buffer = {};
    io_uring_prep_read(ring_->next_sqe().value(), b.get(), buffer.data(), buffer.size(), 0);
    const auto start = now_monotonic();
    EXPECT_FALSE(ring_->submit_and_wait(20000).value());
    EXPECT_GE(now_monotonic() - start, 20000U);
    ASSERT_TRUE(write_all(a.get(), "abc"));
    EXPECT_TRUE(ring_->submit_and_wait(kInfinity).value());
    io_uring_cqe* cqe = nullptr;
    ASSERT_EQ(io_uring_peek_cqe(ring_->get(), &cqe), 0);
    EXPECT_EQ(cqe->res, 3);
    io_uring_cqe_seen(ring_->get(), cqe);
    EXPECT_FALSE(ring_->submit_and_wait(0).value());
}

TEST_F(UringTest, AFullQueueIsSubmitted) {
    for (int i = 0; i < 20; ++i)
        io_uring_prep_nop(ring_->next_sqe().value());
    ASSERT_TRUE(ring_->submit());
    int done = 0;
    while (done < 20 && ring_->submit_and_wait(1000000).value()) {
        io_uring_cqe* cqe = nullptr;
        while (io_uring_peek_cqe(ring_->get(), &cqe) == 0) {
            io_uring_cqe_seen(ring_->get(), cqe);
            ++done;
        }
    }
    EXPECT_EQ(done, 20);
}

TEST_F(UringTest, KnowsWhatTheKernelKnows) {
    EXPECT_TRUE(ring_->supports(IORING_OP_READ));
    EXPECT_FALSE(ring_->supports(250));
    EXPECT_FALSE(ring_->supports(100000));
}

TEST_F(UringTest, MovingLeavesOneOwner) {
    Uring other = std::move(*ring_);
    *ring_ = std::move(other);
    io_uring_prep_nop(ring_->next_sqe().value());
    EXPECT_TRUE(ring_->submit_and_wait(1000000).value());
}

TEST_F(UringTest, BadFlagsAndSizes) {
    EXPECT_EQ(Uring::create(4, 1U << 31).error().code(), EINVAL);
    EXPECT_EQ(Uring::create(0, 0).error().code(), EINVAL);
}

} // namespace
} // namespace thaw
