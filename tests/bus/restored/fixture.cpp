// SPDX-License-Identifier: MIT
#include "fixture.hpp"

#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fakes/daemon_launch.hpp"
#include "fakes/must.hpp"
#include "image/store.hpp"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>

namespace thaw::testing {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMemorySize = 8 << 20;

using fakes::must;

void put(const std::string& path, std::string_view text) {
    if (!make_directories(fs::path(path).parent_path().string()) || !write_file_atomic(path, text))
        std::abort();
}

} // namespace

void RestoredTest::SetUp() {
    for (const char* folder : {"/run/thaw", "/run/systemd"})
        ASSERT_TRUE(remove_tree(folder));
    for (const char* folder :
         {paths::kRestoreRuntime, paths::kVmRuntime, paths::kPagerVms, paths::kRuntimeUnits})
        ASSERT_TRUE(make_directories(folder));
    import_images();
    loop_.emplace(must(EventLoop::create()));
    journal_ = std::make_unique<JournalSink>(*loop_);
    // Only restore1's own rules are under test; the fakes may own their names.
    policy_folder_ = "/run/thaw/policy";
    put(policy_folder_ + "/org.thaw.restore1.conf",
        must(read_file(std::string(SOURCE_ROOT) + "/dbus/policy/org.thaw.restore1.conf")));
    private_bus_ = must(fakes::PrivateBus::start({.policy_folders = {policy_folder_}}));
    private_bus_->use_as_system_bus();
    start_systemd();
    start_pager();
    start_client();
}

void RestoredTest::TearDown() {
    kill_daemon();
    // `systemctl status` of a VM's unit shows what its manager says of it.
    for (const auto& entry : journal_->entries()) {
        const auto vm = entry.find("THAW_INSTANCE");
        const auto unit = entry.find("OBJECT_SYSTEMD_UNIT");
        if (vm == entry.end()) continue;
        EXPECT_TRUE(unit != entry.end() && unit->second == vmm_unit(vm->second))
            << entry.at("MESSAGE");
    }
    if (HasFailure()) {
        for (const auto& event : events_)
            std::cerr << "  event: " << event << '\n';
        for (const auto& entry : journal_->entries())
            if (auto text = entry.find("MESSAGE"); text != entry.end())
                std::cerr << "  journal: " << text->second << '\n';
        std::cerr << read_text(log_file_);
    }
    slots_.clear();
    vmms_.clear();
    dead_vmms_.clear();
    journal_.reset();
    bus_.reset();
    pager_.reset();
    systemd_.reset();
    private_bus_.reset();
}

void RestoredTest::import_images() {
    if (fs::exists(std::string(paths::kImages) + "/base")) return;
    ASSERT_TRUE(make_directories(paths::kImages));
    put("/run/thaw/state", "the state");
    const image::Store store(paths::kImages);
    for (const char* name : {"base", "other", "huge", "odd"}) {
        put("/run/thaw/memory", std::string(kMemorySize, name[0]));
        image::Store::Source source{
            .state_path = "/run/thaw/state", .memory_path = "/run/thaw/memory", .manifest = {}
        };
        if (name == std::string("huge")) source.manifest.page_size = image::kPageSize2M;
        if (name == std::string("odd"))
            source.manifest.drives = {{.id = "d", .path = "/srv/50% \"x\".img"}};
        const auto done =
            store.import(name, source, [](std::uint64_t, std::uint64_t) { return true; });
        ASSERT_TRUE(done) << done.error().message();
    }
}

void RestoredTest::start_systemd() {
    systemd_ = must(fakes::FakeSystemd::create(*loop_, must(private_bus_->connect(*loop_))));
    systemd_->on_call([this](const fakes::FakeCall& made) {
        if (made.member == "StartUnit" || made.member == "StopUnit" || made.member == "KillUnit")
            events_.push_back(fmt::format("{} {} {}", made.member, made.unit, made.mode));
    });
    systemd_->on_state([this](const std::string& unit, fakes::FakeUnit& state) {
        events_.push_back(fmt::format("unit {} {}", unit, state.active_state));
        const auto name = vm_of_vmm_unit(unit);
        if (!name) return;
        if (state.active_state == "active") {
            start_vmm(*name);
        } else if (auto found = vmms_.find(*name); found != vmms_.end()) {
            found->second->die();
            dead_vmms_.push_back(std::move(found->second));
            vmms_.erase(found);
        }
    });
    ASSERT_TRUE(wait([this] { return systemd_->owns_name(); }));
    for (const char* name : {"a", "b", "a-b", "c", "d"})
        systemd_->add_unit(vmm_unit(name));
    // Recording VMs are named after their job.
    for (unsigned job = 1; job < 10; ++job)
        systemd_->add_unit(vmm_unit(fmt::format("record-{}", job)));
}

void RestoredTest::start_vmm(const std::string& name) {
    ASSERT_TRUE(make_directories(paths::vm_directory(name)));
    if (!vmm_listens_) return;
    auto& vmm = vmms_[name] = std::make_unique<HttpVmm>(*loop_, paths::vm_api_socket(name));
    vmm->on_request([this, name](const std::string& request, const std::string&) {
        events_.push_back(fmt::format("{} {}", request, name));
        if (auto_serve_ && request == "PUT /snapshot/load" && pager_->session(name) != nullptr)
            pager_->set_state(name, "serving");
    });
    if (auto script = vmm_script_.find(name); script != vmm_script_.end()) script->second(*vmm);
}

void RestoredTest::start_pager() {
    pager_ = std::make_unique<FakePager>(
        must(private_bus_->connect(*loop_)),
        [this](const std::string& text) { events_.push_back(text); }
    );
    ASSERT_TRUE(wait([this] { return pager_->owns_name(); }));
}

void RestoredTest::start_client() {
    register_bus_errors(restore1::kErrors);
    bus_.emplace(must(private_bus_->connect(*loop_)));
    const auto watch = [this](const char* member, Bus::SignalHandler handler) {
        slots_.push_back(must(bus_->match_signal(
            restore1::kBusName, restore1::kPath, restore1::kManagerInterface, member,
            std::move(handler)
        )));
    };
    watch("JobNew", [this](BusMessage& m) {
        std::uint32_t id = 0;
        const char *path = nullptr, *name = nullptr;
        if (m.read("uos", &id, &path, &name)) events_.push_back(fmt::format("JobNew {}", name));
    });
    watch("JobRemoved", [this](BusMessage& m) {
        std::uint32_t id = 0;
        const char *path = nullptr, *name = nullptr, *error = nullptr, *text = nullptr,
                   *result = nullptr;
        if (!m.read("uossss", &id, &path, &name, &error, &text, &result)) return;
        events_.push_back(fmt::format("JobRemoved {} {} {}", name, result, strip(error)));
        ends_[id] = {name, strip(error), text, result};
    });
    for (const char* member : {"InstanceNew", "InstanceRemoved"})
        watch(member, [this, member](BusMessage& m) {
            const char *name = nullptr, *path = nullptr, *result = "";
            if (!m.read("so", &name, &path)) return;
            if (member == std::string("InstanceRemoved") && !m.read("s", &result)) return;
            events_.push_back(fmt::format("{} {} {}", member, name, result));
        });
    slots_.push_back(must(bus_->watch_name(restore1::kBusName, [this](bool owned) {
        daemon_owned_ = owned;
    })));
}

// ---- the daemon -----------------------------------------------------------------------------

void RestoredTest::configure(const std::string& text) {
    put("/run/thaw/restored.conf.d/test.conf", text);
}

void RestoredTest::start_daemon() {
    log_file_ = "/run/thaw/log";
    const Fd log(open(log_file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    struct stat st = {};
    ASSERT_EQ(fstat(log.get(), &st), 0);
    const auto stream = fmt::format("{}:{}", st.st_dev, st.st_ino);
    // Our journald stand-in takes the entries; what a sanitizer says goes to the file.
    daemon_ = fakes::launch_daemon(
        {.program = RESTORED,
         .descriptors = {},
         .environment = {{"JOURNAL_STREAM", stream}, {"THAW_LOG_LEVEL", "debug"}},
         .log = log.get()}
    );
    ASSERT_GT(daemon_, 0);
    ASSERT_TRUE(wait([this] { return daemon_owned_; })) << read_text(log_file_);
}

void RestoredTest::kill_daemon() {
    if (daemon_ <= 0) return;
    kill(daemon_, SIGKILL);
    int status = 0;
    waitpid(daemon_, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        << "the daemon had ended by itself: " << status << "\n"
        << read_text(log_file_);
    daemon_ = -1;
}

bool RestoredTest::terminate_daemon(Microseconds limit, const std::function<void()>& let_go) {
    kill(daemon_, SIGTERM);
    const bool closed = wait([this] { return !daemon_owned_; }, limit);
    let_go();
    int status = 0;
    waitpid(std::exchange(daemon_, -1), &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    return closed;
}

void RestoredTest::restart_daemon() {
    kill_daemon();
    ASSERT_TRUE(wait([this] { return !daemon_owned_; }));
    start_daemon();
}

// ---- calls ----------------------------------------------------------------------------------

std::string RestoredTest::strip(const std::string& name) {
    return name.substr(name.rfind('.') + 1);
}

std::string RestoredTest::unit_of(const std::string& name) {
    return vmm_unit(name);
}

Result<BusMessage> RestoredTest::call(
    const std::string& path, const std::string& interface, const std::string& member,
    const std::function<Result<>(BusMessage&)>& fill
) {
    THAW_TRY(auto message, bus_->new_call(restore1::kBusName, path, interface, member));
    if (fill) THAW_CHECK(fill(message));
    std::optional<Result<BusMessage>> got;
    const auto pending =
        bus_->call(std::move(message), [&](Result<BusMessage> reply) { got = std::move(reply); });
    if (!wait([&] { return got.has_value(); })) return fail(ETIME, "{} got no answer", member);
    return std::move(*got);
}

Result<BusMessage> RestoredTest::call_manager(
    const std::string& member, const std::function<Result<>(BusMessage&)>& fill
) {
    return call(restore1::kPath, restore1::kManagerInterface, member, fill);
}

Result<std::uint32_t>
RestoredTest::restore(const std::string& name, const std::string& image, const Options& options) {
    const auto fill = [&](BusMessage& m) -> Result<> {
        THAW_CHECK(m.append("ss", name.c_str(), image.c_str()));
        THAW_CHECK(m.open_container('a', "{sv}"));
        auto done = options ? options(m) : m.append("{sv}", "MemoryBackend", "s", "uffd");
        if (!done) return done;
        THAW_CHECK(m.close_container());
        return m.append("t", std::uint64_t{0});
    };
    THAW_TRY(auto reply, call_manager("RestoreInstance", fill));
    std::uint32_t id = 0;
    const char* path = nullptr;
    THAW_CHECK(reply.read("uo", &id, &path));
    events_.push_back(fmt::format("reply {}", name));
    return id;
}

Result<std::uint32_t> RestoredTest::stop(const std::string& name) {
    THAW_TRY(auto reply, call_manager("StopInstance", [&](BusMessage& m) {
                 return m.append("st", name.c_str(), std::uint64_t{0});
             }));
    std::uint32_t id = 0;
    const char* path = nullptr;
    THAW_CHECK(reply.read("uo", &id, &path));
    return id;
}

Result<> RestoredTest::cancel(std::uint32_t id) {
    THAW_CHECK(call_manager("CancelJob", [&](BusMessage& m) { return m.append("u", id); }));
    return {};
}

std::string RestoredTest::text_property(
    const std::string& path, const std::string& interface, const std::string& property
) {
    auto reply = call(path, "org.freedesktop.DBus.Properties", "Get", [&](BusMessage& m) {
        return m.append("ss", interface.c_str(), property.c_str());
    });
    const char* text = nullptr;
    if (!reply || !reply->read("v", "s", &text)) return "";
    return text;
}

std::uint64_t RestoredTest::ended_jobs(const std::string& kind, const std::string& result) {
    auto reply = call(restore1::kPath, "org.freedesktop.DBus.Properties", "Get", [](BusMessage& m) {
        return m.append("ss", restore1::kManagerInterface, "JobResults");
    });
    EXPECT_TRUE(reply && reply->enter_container('v', "a(sst)").value_or(false));
    EXPECT_TRUE(reply && reply->enter_container('a', "(sst)").value_or(false));
    std::uint64_t found = 0;
    while (reply && reply->enter_container('r', "sst").value_or(false)) {
        const char *of = nullptr, *as = nullptr;
        std::uint64_t count = 0;
        EXPECT_TRUE(reply->read("sst", &of, &as, &count) && reply->exit_container());
        if (of == kind && as == result) found = count;
    }
    return found;
}

std::string RestoredTest::job_property(std::uint32_t id, const std::string& property) {
    return text_property(
        fmt::format("{}/_{}", restore1::kJobPrefix, id), restore1::kJobInterface, property
    );
}

std::string RestoredTest::instance_state(const std::string& name) {
    return text_property(
        encode_object_path(restore1::kInstancePrefix, name), restore1::kInstanceInterface, "State"
    );
}

} // namespace thaw::testing
