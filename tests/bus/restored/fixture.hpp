// SPDX-License-Identifier: MIT
#pragma once

// A real thaw-restored on a private bus, with a scripted systemd, a scripted pager, VMMs that speak
// HTTP and a real image store. Everything but the daemon runs on the test's own loop.

#include "fake_pager.hpp"
#include "fakes/fake_systemd.hpp"
#include "fakes/private_bus.hpp"
#include "fakes/run_until.hpp"
#include "http_vmm.hpp"
#include "journal_sink.hpp"

#include <gtest/gtest.h>

#include <sys/types.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::testing {

struct JobEnd {
    std::string instance;
    std::string error_name; // without org.thaw.restore1.Error.
    std::string error_message;
    std::string result;
};

class RestoredTest : public ::testing::Test {
protected:
    using Options = std::function<Result<>(BusMessage&)>; // appends {sv} entries

    void SetUp() override;
    void TearDown() override;

    // ---- the daemon
    void configure(const std::string& text); // before start_daemon()
    void start_daemon();
    void kill_daemon(); // SIGKILL
    void restart_daemon();
    // SIGTERM; whether it has closed everything within `limit`. The kernel keeps its process as
    // long as a disk keeps a thread of it: `let_go` ends that.
    bool terminate_daemon(Microseconds limit, const std::function<void()>& let_go);

    // ---- calls
    Result<BusMessage> call(
        const std::string& path, const std::string& interface, const std::string& member,
        const std::function<Result<>(BusMessage&)>& fill = {}
    );
    Result<BusMessage>
    call_manager(const std::string& member, const std::function<Result<>(BusMessage&)>& fill = {});
    Result<std::uint32_t> restore(
        const std::string& name, const std::string& image = "base", const Options& options = {}
    );
    Result<std::uint32_t> stop(const std::string& name);
    Result<> cancel(std::uint32_t id);
    // `busctl call` of the manager's object by another user: what it wrote and " status N".
    std::string as_nobody(const std::string& words);
    // Name of the error of a call without its prefix; "" for success.
    template <class T>
    static std::string error_of(const Result<T>& result) {
        return result ? "" : strip(std::string(result.error().bus_name()));
    }
    static std::string strip(const std::string& name);
    std::string text_property(
        const std::string& path, const std::string& interface, const std::string& property
    );
    // Of JobResults: jobs of that kind that ended so.
    std::uint64_t ended_jobs(const std::string& kind, const std::string& result);
    std::string job_property(std::uint32_t id, const std::string& property);
    std::string instance_state(const std::string& name); // "" when there is none
    static std::string unit_of(const std::string& name);

    // ---- waiting
    bool wait(const std::function<bool()>& condition, Microseconds limit = 10 * kUsecPerSec) {
        return fakes::run_until(*loop_, condition, limit);
    }
    JobEnd wait_end(std::uint32_t id);
    bool wait_job_state(std::uint32_t id, const std::string& state);
    // Restores and expects it to work.
    void restore_done(const std::string& name, const Options& options = {});
    // Restores, expects this end and a VM that was stopped and left nothing.
    JobEnd restore_fails(
        const std::string& name, const std::string& error, const std::string& result = "failed"
    );

    // ---- looking
    void expect_clean(const std::string& name);
    // Position of the first event that begins so; SIZE_MAX when there is none.
    std::size_t event(const std::string& prefix) const;
    std::size_t count_events(const std::string& prefix) const;
    static bool exists(const std::string& path);
    // What the daemon holds open below a folder.
    std::vector<std::string> open_below(const std::string& folder) const;
    static std::string read_text(const std::string& path);
    HttpVmm& vmm(const std::string& name) { return *vmms_.at(name); }

    std::optional<EventLoop> loop_;
    std::unique_ptr<fakes::PrivateBus> private_bus_;
    std::unique_ptr<fakes::FakeSystemd> systemd_;
    std::unique_ptr<FakePager> pager_;
    std::unique_ptr<JournalSink> journal_;
    std::optional<Bus> bus_;

    std::vector<std::string> events_; // what the fakes were asked for and the daemon told, in order
    std::map<std::uint32_t, JobEnd> ends_;
    std::map<std::string, std::unique_ptr<HttpVmm>> vmms_;
    // Scripts the VMM of that name as soon as it is there.
    std::map<std::string, std::function<void(HttpVmm&)>> vmm_script_;
    bool auto_serve_ = true;  // the pager serves once the VMM loads
    bool vmm_listens_ = true; // the VMM opens its API socket
    bool unload_gone_units_ = false;
    bool daemon_owned_ = false;

private:
    void start_systemd();
    void start_pager();
    void start_client();
    void start_vmm(const std::string& unit);
    void import_images();

    std::vector<BusSlot> slots_;
    std::vector<std::unique_ptr<HttpVmm>> dead_vmms_;
    pid_t daemon_ = -1;
    std::string policy_folder_;
    std::string log_file_;
};

} // namespace thaw::testing
