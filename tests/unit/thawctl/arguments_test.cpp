// SPDX-License-Identifier: MIT

#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "doctor.hpp"
#include "exit_codes.hpp"
#include "verbs.hpp"

#include <gtest/gtest.h>

namespace thaw::ctl {
namespace {

TEST(Arguments, Drives) {
    const auto plain = parse_drive("root=/srv/root.ext4");
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->id, "root");
    EXPECT_EQ(plain->path, "/srv/root.ext4");
    EXPECT_FALSE(plain->read_only);
    EXPECT_FALSE(plain->shared);
    const auto shared = parse_drive("root=a:b=c:ro:shared");
    ASSERT_TRUE(shared);
    EXPECT_EQ(shared->path, "a:b=c");
    EXPECT_TRUE(shared->read_only);
    EXPECT_TRUE(shared->shared);
    EXPECT_TRUE(parse_drive("root=x:shared:ro")->shared);
    for (const char* bad : {"", "root", "=x", "root=", "root=:ro", "root=x:shared"})
        EXPECT_FALSE(parse_drive(bad)) << bad;
}

TEST(Arguments, PageSizesAndOverrides) {
    EXPECT_EQ(*parse_page_size("4K"), 4096U);
    EXPECT_EQ(*parse_page_size("4096"), 4096U);
    EXPECT_EQ(*parse_page_size("2M"), 2U << 20);
    for (const char* bad : {"", "0", "8K", "1G", "page"})
        EXPECT_FALSE(parse_page_size(bad)) << bad;
    EXPECT_EQ(parse_network_override("eth0=tap0")->device, "tap0");
    for (const char* bad : {"", "eth0", "=tap0", "eth0="})
        EXPECT_FALSE(parse_network_override(bad)) << bad;
}

TEST(ExitCodes, ByNameThenByErrno) {
    EXPECT_EQ(exit_code_of(Error(restore1::error::kNoSuchImage, ENOENT, "")), kExitNotFound);
    EXPECT_EQ(
        exit_code_of(Error(restore1::error::kVmmUnreachable, ECONNREFUSED, "")), kExitFailure
    );
    EXPECT_EQ(
        exit_code_of(Error(restore1::error::kPagerUnavailable, EHOSTDOWN, "")), kExitUnavailable
    );
    EXPECT_EQ(exit_code_of(Error(restore1::error::kLoadTimeout, ETIMEDOUT, "")), kExitTimeout);
    EXPECT_EQ(exit_code_of(Error(restore1::error::kCanceled, ECANCELED, "")), kExitCanceled);
    EXPECT_EQ(exit_code_of(Error(kErrorAccessDenied, EACCES, "")), kExitDenied);
    EXPECT_EQ(exit_code_of(Error(EHOSTUNREACH, "")), kExitUnavailable);
    EXPECT_EQ(exit_code_of(Error(EACCES, "")), kExitDenied);
    EXPECT_EQ(exit_code_of(Error(EIO, "")), kExitFailure);
}

TEST(ExitCodes, OfJobs) {
    const std::string load_failed(restore1::error::kLoadFailed);
    EXPECT_EQ(exit_code_of(job_error(load_failed, "x", "failed")), kExitFailure);
    EXPECT_EQ(job_error(load_failed, "x", "failed").message(), "LoadFailed: x");
    EXPECT_EQ(exit_code_of(job_error("", "", "timeout")), kExitTimeout);
    EXPECT_EQ(exit_code_of(job_error(load_failed, "x", "canceled")), kExitCanceled);
    EXPECT_EQ(job_error("", "", "failed").message(), "failed");
    EXPECT_EQ(job_error("org.thaw.restore1.Error.New", "x", "failed").message(), "New: x");
}

TEST(Doctor, KernelVersions) {
    EXPECT_EQ(parse_kernel_version("6.1.0-13-amd64"), (KernelVersion{6, 1}));
    EXPECT_EQ(parse_kernel_version("6.18-rc1"), (KernelVersion{6, 18}));
    EXPECT_EQ(parse_kernel_version("nonsense"), (KernelVersion{0, 0}));
    EXPECT_LT((KernelVersion{5, 15}), (KernelVersion{6, 1}));
    EXPECT_LT((KernelVersion{6, 1}), (KernelVersion{6, 10}));
}

} // namespace
} // namespace thaw::ctl
