// SPDX-License-Identifier: MIT

#include "fake_restore.hpp"

#include "api/restore1.hpp"
#include "bus/vtable.hpp"
#include "event/priorities.hpp"

#include <gtest/gtest.h>

namespace thaw::ctl::testing {

namespace {

constexpr Microseconds kMoment = 30 * kUsecPerMsec;
constexpr std::uint32_t kForeignJob = 999;
using F = FakeRestore;
using J = FakeJob;
using I = FakeInstance;

const sd_bus_vtable kManager[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD(
        "RestoreInstance", "ssa{sv}t", "uo", (bus_method<F, &F::method_restore>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "StopInstance", "st", "uo", (bus_method<F, &F::method_stop>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "CancelJob", "u", "", (bus_method<F, &F::method_cancel>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "GetInstance", "s", "o", (bus_method<F, &F::method_get_instance>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "ListInstances", "", "a(sssso)", (bus_method<F, &F::method_list_instances>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "ListJobs", "", "a(usssdo)", (bus_method<F, &F::method_list_jobs>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "SetPolicy", "sv", "", (bus_method<F, &F::method_set_policy>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_PROPERTY("Version", "s", (bus_property<F, &F::append_version>), 0, 0),
    SD_BUS_PROPERTY("MemoryBackend", "s", (bus_property<F, &F::append_backend>), 0, 0),
    SD_BUS_PROPERTY("Prefetch", "b", (bus_property<F, &F::append_prefetch>), 0, 0),
    SD_BUS_PROPERTY("NJobs", "u", (bus_property<F, &F::append_jobs>), 0, 0),
    SD_BUS_VTABLE_END,
};

const sd_bus_vtable kJob[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Id", "u", (bus_property<J, &J::append_id>), 0, 0),
    SD_BUS_PROPERTY("Instance", "s", (bus_property<J, &J::append_text<&J::instance>>), 0, 0),
    SD_BUS_PROPERTY("State", "s", (bus_property<J, &J::append_text<&J::state>>), 0, 0),
    SD_BUS_PROPERTY("Stage", "s", (bus_property<J, &J::append_stage>), 0, 0),
    SD_BUS_PROPERTY("Backend", "s", (bus_property<J, &J::append_backend>), 0, 0),
    SD_BUS_PROPERTY("BackendReason", "s", (bus_property<J, &J::append_reason>), 0, 0),
    SD_BUS_PROPERTY("ErrorName", "s", (bus_property<J, &J::append_text<&J::error_name>>), 0, 0),
    SD_BUS_PROPERTY(
        "ErrorMessage", "s", (bus_property<J, &J::append_text<&J::error_message>>), 0, 0
    ),
    SD_BUS_PROPERTY("Result", "s", (bus_property<J, &J::append_result>), 0, 0),
    SD_BUS_PROPERTY("Progress", "d", (bus_property<J, &J::append_progress>), 0, 0),
    SD_BUS_VTABLE_END,
};

const sd_bus_vtable kInstance[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("Pause", "", "", (bus_method<I, &I::method_pause>), SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Resume", "", "", (bus_method<I, &I::method_resume>), SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Name", "s", (bus_property<I, &I::append_text<&I::name>>), 0, 0),
    SD_BUS_PROPERTY("Image", "s", (bus_property<I, &I::append_text<&I::image>>), 0, 0),
    SD_BUS_PROPERTY("Unit", "s", (bus_property<I, &I::append_text<&I::unit>>), 0, 0),
    SD_BUS_PROPERTY("State", "s", (bus_property<I, &I::append_text<&I::state>>), 0, 0),
    SD_BUS_PROPERTY("Session", "o", (bus_property<I, &I::append_session>), 0, 0),
    SD_BUS_PROPERTY("StartTimestamp", "t", (bus_property<I, &I::append_started>), 0, 0),
    SD_BUS_VTABLE_END,
};

std::string instance_path(const std::string& name) {
    char* path = nullptr;
    EXPECT_GE(sd_bus_path_encode(restore1::kInstancePrefix, name.c_str(), &path), 0);
    const std::unique_ptr<char, decltype(&free)> owner(path, &free);
    return path;
}

// One option as text; the overrides as "NetworkOverrides=eth0:tap0,", a dictionary as its options
// with commas.
Result<std::string> read_option(BusMessage& message) {
    const char* key = nullptr;
    THAW_CHECK(message.read("s", &key));
    THAW_TRY(const auto type, message.peek_variant());
    std::string text = fmt::format(" {}=", key);
    if (type == "a(ss)") {
        THAW_CHECK(message.enter_container('v', "a(ss)"));
        THAW_CHECK(message.enter_container('a', "(ss)"));
        const char* from = nullptr;
        const char* to = nullptr;
        while (sd_bus_message_read(message.get(), "(ss)", &from, &to) > 0)
            text += fmt::format("{}:{},", from, to);
        THAW_CHECK(message.exit_container());
        THAW_CHECK(message.exit_container());
    } else if (type == "a{sv}") {
        THAW_CHECK(message.enter_container('v', "a{sv}"));
        THAW_CHECK(message.enter_container('a', "{sv}"));
        for (;;) {
            THAW_TRY(const bool more, message.enter_container('e', "sv"));
            if (!more) break;
            THAW_TRY(const auto inner, read_option(message));
            text += inner + ",";
            THAW_CHECK(message.exit_container());
        }
        THAW_CHECK(message.exit_container());
        THAW_CHECK(message.exit_container());
    } else if (type == "s") {
        const char* value = nullptr;
        THAW_CHECK(message.read("v", "s", &value));
        text += value;
    } else if (type == "b") {
        int value = 0;
        if (sd_bus_message_read(message.get(), "v", "b", &value) < 0) return fail(EINVAL, "bool");
        text += value != 0 ? "true" : "false";
    } else {
        std::uint64_t value = 0;
        if (sd_bus_message_read(message.get(), "v", "t", &value) < 0) return fail(EINVAL, "t");
        text += std::to_string(value);
    }
    return text;
}

} // namespace

Result<> FakeInstance::method_pause(BusMessage message) {
    state = "paused";
    return message.reply_empty();
}

Result<> FakeInstance::method_resume(BusMessage message) {
    state = "running";
    return message.reply_empty();
}

FakeRestore::FakeRestore(Bus& bus, EventLoop& loop) : bus_(bus), loop_(loop) {
    const auto keep = [&](Result<BusSlot> slot) {
        ASSERT_TRUE(slot) << slot.error().message();
        slots_.push_back(std::move(*slot));
    };
    keep(bus.add_object(restore1::kPath, restore1::kManagerInterface, kManager, this));
    keep(bus.add_objects(
        restore1::kJobPrefix, restore1::kJobInterface, kJob,
        [this](const std::string& path) -> void* {
            for (auto& [id, job] : jobs)
                if (path == job_path(id)) return &job;
            return nullptr;
        }
    ));
    keep(bus.add_objects(
        restore1::kInstancePrefix, restore1::kInstanceInterface, kInstance,
        [this](const std::string& path) -> void* {
            for (auto& [name, instance] : instances)
                if (path == instance_path(name)) return &instance;
            return nullptr;
        }
    ));
    bool owned = false;
    name_ = bus.request_name(restore1::kBusName, [&](Result<> done) { owned = done.has_value(); });
    for (int i = 0; i < 200 && !owned; i++)
        (void)loop.run_once(10 * kUsecPerMsec);
    EXPECT_TRUE(owned);
}

std::string FakeRestore::job_path(std::uint32_t id) const {
    return fmt::format("{}/_{}", restore1::kJobPrefix, id);
}

Result<> FakeRestore::append_jobs(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(jobs.size()));
}

Result<> FakeRestore::method_restore(BusMessage message) {
    const char* name = nullptr;
    const char* image = nullptr;
    THAW_CHECK(message.read("ss", &name, &image));
    std::string call = fmt::format("RestoreInstance {} {}", name, image);
    THAW_CHECK(message.enter_container('a', "{sv}"));
    for (;;) {
        THAW_TRY(const bool more, message.enter_container('e', "sv"));
        if (!more) break;
        THAW_TRY(const auto option, read_option(message));
        call += option;
        THAW_CHECK(message.exit_container());
    }
    calls.push_back(call);
    if (std::string_view(name) == "denied")
        return fail_named(kErrorAccessDenied, EACCES, "Access denied");
    const auto id = next_id_++;
    jobs[id] = {.id = id, .instance = name, .kind = "restore", .silent = silent};
    if (std::string_view(name) == "instant") end_job(id, "done", "", "");
    THAW_CHECK(message.reply("uo", id, job_path(id).c_str()));
    run_job(id);
    return {};
}

void FakeRestore::run_job(std::uint32_t id) {
    const auto name = jobs[id].instance;
    const auto later = [&](std::function<void()> what) {
        auto timer = loop_.add_timer(kMoment, std::move(what), "fake job", priority::kTimer);
        ASSERT_TRUE(timer);
        timers_.push_back(std::move(*timer));
    };
    if (name == "good") {
        // Somebody else's job ends badly first; that is none of this caller's business.
        jobs[kForeignJob] = {.id = kForeignJob, .instance = "other", .kind = "stop"};
        end_job(kForeignJob, "failed", "", "");
        later([this, id] { end_job(id, "done", "", ""); });
    }
    if (name == "bad")
        later([this, id] {
            end_job(
                id, "failed", restore1::error::kLoadFailed.data(), "no such drive: \x1b[31mroot"
            );
        });
    if (name == "hang")
        later([this, id] {
            end_job(id, "timeout", restore1::error::kLoadTimeout.data(), "took too long");
        });
    if (name == "lost")
        later([this, id] {
            jobs[id].state = "failed";
            jobs[id].error_name = restore1::error::kManagerRestarted;
            jobs[id].error_message = "interrupted";
            restart();
        });
}

// Gives the name up and takes it again, as a restarted daemon does.
void FakeRestore::restart() {
    (void)sd_bus_release_name_async(bus_.get(), nullptr, restore1::kBusName, nullptr, nullptr);
    auto timer = loop_.add_timer(
        kMoment, [this] { name_ = bus_.request_name(restore1::kBusName, [](Result<>) {}); },
        "fake restart", priority::kTimer
    );
    if (timer) timers_.push_back(std::move(*timer));
}

void FakeRestore::end_job(
    std::uint32_t id, const char* state, const char* error, const char* text
) {
    auto& job = jobs[id];
    job.state = state;
    job.error_name = error;
    job.error_message = text;
    EXPECT_TRUE(bus_.emit_signal(
        restore1::kPath, restore1::kManagerInterface, "JobRemoved", "uossss", id,
        job_path(id).c_str(), job.instance.c_str(), error, text, state
    ));
}

Result<> FakeRestore::method_stop(BusMessage message) {
    const char* name = nullptr;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("st", &name, &flags));
    calls.push_back(fmt::format("StopInstance {}", name));
    if (!instances.contains(name))
        return fail_named(restore1::error::kNoSuchInstance, ENXIO, "no VM '{}'", name);
    const auto id = next_id_++;
    jobs[id] = {.id = id, .instance = name, .kind = "stop"};
    end_job(id, "done", "", "");
    return message.reply("uo", id, job_path(id).c_str());
}

Result<> FakeRestore::method_cancel(BusMessage message) {
    std::uint32_t id = 0;
    THAW_CHECK(message.read("u", &id));
    calls.push_back(fmt::format("CancelJob {}", id));
    if (!jobs.contains(id)) return fail_named(restore1::error::kNoSuchJob, ENXIO, "no job {}", id);
    THAW_CHECK(message.reply_empty());
    end_job(id, "canceled", restore1::error::kCanceled.data(), "canceled on request");
    return {};
}

Result<> FakeRestore::method_get_instance(BusMessage message) {
    const char* name = nullptr;
    THAW_CHECK(message.read("s", &name));
    if (!instances.contains(name))
        return fail_named(restore1::error::kNoSuchInstance, ENXIO, "no VM '{}'", name);
    return message.reply("o", instance_path(name).c_str());
}

Result<> FakeRestore::method_list_instances(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(sssso)"));
    for (const auto& [name, instance] : instances)
        THAW_CHECK(reply.append(
            "(sssso)", name.c_str(), instance.unit.c_str(), instance.state.c_str(),
            instance.image.c_str(), instance_path(name).c_str()
        ));
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> FakeRestore::method_list_jobs(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(usssdo)"));
    for (const auto& [id, job] : jobs)
        THAW_CHECK(reply.append(
            "(usssdo)", id, job.instance.c_str(), job.kind.c_str(), job.state.c_str(), 0.25,
            job_path(id).c_str()
        ));
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> FakeRestore::method_set_policy(BusMessage message) {
    const char* key = nullptr;
    THAW_CHECK(message.read("s", &key));
    THAW_TRY(const auto type, message.peek_variant());
    calls.push_back(fmt::format("SetPolicy {} {}", key, type));
    return message.reply_empty();
}

} // namespace thaw::ctl::testing
