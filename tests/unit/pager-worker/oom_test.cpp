// SPDX-License-Identifier: MIT
// A worker that the kernel kills for want of memory: a real one, in a memory control group of its
// own, with the kernel's own count as the witness.

#include "core/file.hpp"
#include "core/text.hpp"
#include "harness.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <thread>

namespace thaw::test {
namespace {

// Either hierarchy; removed at the end, when nobody is in it any more.
class MemoryGroup {
public:
    MemoryGroup() {
        struct Kind {
            const char* root;
            const char* limit;
            const char* events;
        };
        constexpr Kind kKinds[] = {
            {"/sys/fs/cgroup", "memory.max", "memory.events"},
            {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"},
        };
        for (const auto& kind : kKinds) {
            path_ = fmt::format("{}/thaw-oom-test-{}", kind.root, ::getpid());
            if (::mkdir(path_.c_str(), 0755) != 0) continue;
            limit_ = path_ + "/" + kind.limit;
            events_ = path_ + "/" + kind.events;
            if (::access(limit_.c_str(), W_OK) == 0) return;
            ::rmdir(path_.c_str());
        }
        path_.clear();
    }
    ~MemoryGroup() {
        if (path_.empty()) return;
        EXPECT_TRUE(eventually([&] { return ::rmdir(path_.c_str()) == 0; }));
    }
    MemoryGroup(const MemoryGroup&) = delete;
    MemoryGroup& operator=(const MemoryGroup&) = delete;

    bool is_there() const { return !path_.empty(); }
    bool limit(std::uint64_t bytes) const { return put(limit_, bytes); }
    bool take(pid_t pid) const {
        return put(path_ + "/cgroup.procs", static_cast<std::uint64_t>(pid));
    }
    // How many processes the kernel has killed in it.
    std::uint64_t kills() const {
        const auto text = read_file(events_);
        if (!text) return 0;
        const auto at = text->find("oom_kill ");
        if (at == std::string::npos) return 0;
        const auto number = text->substr(at + 9);
        return parse_unsigned(number.substr(0, number.find('\n'))).value_or(0);
    }

private:
    static bool put(const std::string& file, std::uint64_t value) {
        const auto fd = open_file(file, O_WRONLY);
        return fd && write_all(fd->get(), std::to_string(value)).has_value();
    }
    std::string path_;
    std::string limit_;
    std::string events_;
};

class OutOfMemory : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Engines, OutOfMemory, ::testing::Values(THAW_TEST_ENGINES));

TEST_P(OutOfMemory, AWorkerThatTheKernelKillsIsReplacedLikeAnyOther) {
    constexpr std::uint64_t kSize = 16 << 20;
    const HangGuard guard(60);
    const MemoryGroup group;
    if (!group.is_there()) GTEST_SKIP() << "no memory control group can be made here";
    const TestImage image(kSize);
    const Guest guest({.size = kSize});
    BrokerOptions options;
    options.engine = GetParam();
    Broker broker(image, guest, std::move(options));
    auto worker = broker.start_ready();
    for (std::uint64_t page = 0; page < 64; ++page)
        *guest.at(page) = ~page;
    guest.remove(70, 4);
    // Less than the buffers that Complete reads into.
    ASSERT_TRUE(group.limit(256 << 10));
    ASSERT_TRUE(group.take(worker.pid()));
    broker.memory().request_populate(true);
    Broker::attend(worker);
    std::thread toucher([&] { static_cast<void>(*guest.at(4000)); });
    EXPECT_EQ(worker.wait(), -SIGKILL);
    EXPECT_EQ(group.kills(), 1U) << "the kernel did it";
    worker = broker.start_ready(); // outside of the group
    toucher.join();
    EXPECT_TRUE(worker.receive(protocol::ControlType::Complete));
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < image.pages(); ++page) {
        const bool written = page < 64;
        const bool removed = page >= 70 && page < 74;
        if (written)
            wrong += *guest.at(page) == ~page ? 0 : 1;
        else if (removed)
            wrong += guest.is_zero(page) ? 0 : 1;
        else
            wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
    }
    EXPECT_EQ(wrong, 0U);
}

} // namespace
} // namespace thaw::test
