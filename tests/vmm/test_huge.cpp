// SPDX-License-Identifier: MIT
// Guest RAM of 2 MiB pages. The pool of huge pages is raised for the time of the test only; a
// child process puts it back even when the test is killed.
#include "page_content.hpp"
#include "test_support.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>

using namespace thaw::standin;
using namespace thaw::standin::test;

namespace {

constexpr const char* pool_path = "/proc/sys/vm/nr_hugepages";
constexpr const char* lock_path = "/run/lock/thaw-hugepages.lock";

long read_pool() {
    long pages = -1;
    std::ifstream(pool_path) >> pages;
    return pages;
}

class HugePages {
public:
    explicit HugePages(long wanted) {
        lock_.reset(::open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
        if (!lock_ || ::flock(lock_.get(), LOCK_EX) != 0) {
            reason_ = std::string("cannot lock ") + lock_path;
            return;
        }
        const long before = read_pool();
        if (before < 0 || !start_guard(before)) {
            reason_ = "cannot guard the pool of huge pages";
            return;
        }
        std::ofstream(pool_path) << before + wanted;
        if (read_pool() < before + wanted) {
            reason_ = "no memory for huge pages";
        }
    }
    ~HugePages() {
        alive_.reset();
        if (guard_ > 0) {
            ::waitpid(guard_, nullptr, 0);
        }
    }
    HugePages(const HugePages&) = delete;
    HugePages& operator=(const HugePages&) = delete;
    const std::string& reason() const { return reason_; }

private:
    /// The guard shares the lock, waits for the end of the pipe (close or death of this process)
    /// and writes the old size.
    bool start_guard(long before) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) {
            return false;
        }
        guard_ = ::fork();
        if (guard_ == 0) {
            ::setsid();
            std::signal(SIGINT, SIG_IGN);
            std::signal(SIGTERM, SIG_IGN);
            ::close(ends[1]);
            char byte = 0;
            while (::read(ends[0], &byte, 1) > 0) {
            }
            const int pool = ::open(pool_path, O_WRONLY | O_CLOEXEC);
            const std::string text = std::to_string(before);
            ::_exit(::write(pool, text.data(), text.size()) < 0 ? 1 : 0);
        }
        ::close(ends[0]);
        alive_.reset(ends[1]);
        return guard_ > 0;
    }

    Fd lock_, alive_;
    pid_t guard_ = -1;
    std::string reason_;
};

class Huge : public testing::Test {
protected:
    void SetUp() override {
        if (!pool_.reason().empty()) {
            GTEST_SKIP() << pool_.reason();
        }
        make_image(directory_, {"--page-size", "2097152"}, 32);
    }
    HugePages pool_{20};
    WorkDirectory directory_;
};

} // namespace

TEST_F(Huge, every_byte_is_right) {
    SmallPager pager(directory_.path("uffd.sock"), directory_.path("memory"), {});
    const json guest = {{"pattern", "random"}, {"vcpus", 2}, {"touches", 3000}, {"drop_every", 50}};
    const StandinProcess vmm(directory_, {{"guest", guest}});
    ASSERT_EQ(vmm.load(true).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
    EXPECT_EQ(vmm.report().at("guest").at("mismatches"), 0);
    EXPECT_GT(pager.removed(), 10U);
    EXPECT_EQ(vmm.call("GET", "/machine-config").body.at("huge_pages"), "2M");
    const json verify = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_TRUE(verify.at("all_equal")) << verify;
}

TEST_F(Huge, refilled_and_wrong_pages_show) {
    SmallPager pager(
        directory_.path("uffd.sock"), directory_.path("memory"),
        {.wrong_page = 3, .refill_removed = true}
    );
    const json trace = json::array({{"w", 0, 1}, {"d", 0, 1}, {"r", 100, 1}});
    const StandinProcess vmm(directory_, {{"guest", {{"trace", trace}}}});
    ASSERT_EQ(vmm.load(true).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
    const json verify = vmm.call("PUT", "/standin/verify", json::object()).body;
    EXPECT_GT(verify.at("resurrected"), 200) << verify;
    EXPECT_GT(verify.at("corrupt"), 200) << verify;
}

TEST_F(Huge, cannot_be_restored_from_a_file_mapping) {
    const StandinProcess vmm(directory_, json::object());
    const Reply reply = vmm.load(false, "File", "memory");
    EXPECT_EQ(reply.status, 400);
    EXPECT_NE(reply.body.dump().find("hugetlbfs"), std::string::npos);
}
