// SPDX-License-Identifier: MIT
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fixture.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace thaw::testing {

namespace fs = std::filesystem;

bool RestoredTest::exists(const std::string& path) {
    return fs::exists(path);
}

std::vector<std::string> RestoredTest::open_below(const std::string& folder) const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", daemon_))) {
        std::error_code code;
        const auto target = fs::read_symlink(entry.path(), code).string();
        if (!code && target.starts_with(folder + "/")) found.push_back(target);
    }
    return found;
}

// The loop must turn meanwhile.
std::string RestoredTest::as_nobody(const std::string& words) {
    const auto command = fmt::format(
        "setpriv --reuid 65534 --regid 65534 --clear-groups busctl --address='{}' call {} {} {} "
        "2>&1; echo \" status $?\"",
        private_bus_->address(), restore1::kBusName, restore1::kPath, words
    );
    std::array<char, 512> buffer{};
    FILE* pipe = popen(command.c_str(), "re");
    const int fd = fileno(pipe);
    EXPECT_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    std::string output;
    while (true) {
        const auto got = read(fd, buffer.data(), buffer.size());
        if (got < 0 && errno == EAGAIN) {
            fakes::run_for(*loop_, 20 * kUsecPerMsec);
            continue;
        }
        if (got <= 0) break;
        output.append(buffer.data(), static_cast<std::size_t>(got));
    }
    pclose(pipe);
    return output;
}

std::string RestoredTest::read_text(const std::string& path) {
    auto text = read_file(path);
    return text ? *text : "";
}

std::size_t RestoredTest::event(const std::string& prefix) const {
    for (std::size_t i = 0; i < events_.size(); ++i)
        if (events_[i].starts_with(prefix)) return i;
    return SIZE_MAX;
}

std::size_t RestoredTest::count_events(const std::string& prefix) const {
    return static_cast<std::size_t>(std::count_if(
        events_.begin(), events_.end(),
        [&](const std::string& text) { return text.starts_with(prefix); }
    ));
}

JobEnd RestoredTest::wait_end(std::uint32_t id) {
    EXPECT_TRUE(wait([&] { return ends_.contains(id); }, 30 * kUsecPerSec))
        << "job " << id << " did not end; it is " << job_property(id, "State");
    return ends_[id];
}

bool RestoredTest::wait_job_state(std::uint32_t id, const std::string& state) {
    return wait([&] { return job_property(id, "State") == state; });
}

void RestoredTest::restore_done(const std::string& name, const Options& options) {
    const auto id = restore(name, "base", options);
    ASSERT_TRUE(id) << id.error().message();
    const auto end = wait_end(*id);
    ASSERT_EQ(end.result, "done") << end.error_name << ": " << end.error_message;
    ASSERT_EQ(instance_state(name), "running");
}

JobEnd RestoredTest::restore_fails(
    const std::string& name, const std::string& error, const std::string& result
) {
    const auto id = restore(name);
    EXPECT_TRUE(id) << id.error().message();
    if (!id) return {};
    auto end = wait_end(*id);
    EXPECT_EQ(end.error_name, error) << end.error_message;
    EXPECT_EQ(end.result, result);
    EXPECT_EQ(job_property(*id, "ErrorName"), "org.thaw.restore1.Error." + error);
    EXPECT_EQ(job_property(*id, "Result"), result);
    expect_clean(name);
    return end;
}

void RestoredTest::expect_clean(const std::string& name) {
    EXPECT_EQ(instance_state(name), "");
    EXPECT_EQ(pager_->session(name), nullptr);
    EXPECT_FALSE(exists(paths::restore_ticket(name)));
    EXPECT_FALSE(exists(fs::path(paths::vm_drop_in(name)).parent_path()));
    EXPECT_FALSE(exists(fmt::format("{}/{}.json", paths::kRestoreRuntime, name)));
    const auto* unit = systemd_->unit(unit_of(name));
    ASSERT_NE(unit, nullptr);
    EXPECT_TRUE(unit->active_state == "inactive" || unit->active_state == "failed");
    EXPECT_FALSE(vmms_.contains(name));
}

} // namespace thaw::testing
