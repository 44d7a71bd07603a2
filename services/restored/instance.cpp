// SPDX-License-Identifier: MIT
#include "instance.hpp"

#include "api/restore1.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "manager.hpp"
#include "vm_fields.hpp"

namespace thaw::restore {

namespace {

constexpr Microseconds kPauseLimit = 10 * kUsecPerSec;

} // namespace

Instance::Instance(const Context& context, Record record)
    : context_(context), record_(std::move(record)),
      path_(encode_object_path(restore1::kInstancePrefix, record_.name)),
      unit_(vmm_unit(record_.name)) {}

void Instance::set_state(InstanceState state) {
    THAW_INVARIANT(may_follow(record_.state, state));
    record_.state = state;
    keep();
    log_debug(log_fields(), "{} is {}", record_.name, kInstanceStateNames.name(state));
    changed({"State"});
}

void Instance::set_backend(Backend backend, std::string_view reason) {
    record_.backend = backend;
    record_.backend_reason = reason;
    keep();
}

void Instance::set_session(const std::string& path) {
    record_.session = path;
    keep();
}

void Instance::set_written(std::vector<std::string> paths) {
    record_.written = std::move(paths);
    keep();
}

void Instance::set_paused_for(const std::string& volume) {
    record_.paused_for = volume;
    keep();
}

void Instance::set_started(std::uint64_t realtime) {
    record_.started = realtime;
}

Result<> Instance::set_made(const Made& made) {
    if (record_.made == made) return {};
    record_.made = made;
    return save();
}

void Instance::set_job(const std::optional<JobRecord>& job) {
    record_.job = job;
    keep();
}

Result<> Instance::save() const {
    return context_.records.save(record_);
}

void Instance::keep() const {
    // In memory it is right; a restart meanwhile would find the state before, and look itself.
    if (auto saved = save(); !saved)
        log_warning(log_fields(), "ignoring: {}", saved.error().message());
}

void Instance::watch_unit() {
    unit_watch_ = context_.systemd.watch_unit(unit_, [this](const UnitState& unit) {
        context_.manager.unit_changed(*this, unit);
    });
}

void Instance::watch_session() {
    session_watch_ = context_.pager.watch_session(name(), [this](const PagerSession& session) {
        context_.manager.session_changed(*this, session);
    });
}

void Instance::watch_rootfs() {
    const auto service = rootfs_service(name());
    rootfs_watch_ = context_.systemd.watch_unit(service, [this, service](const UnitState& unit) {
        context_.manager.rootfs_changed(*this, service, unit);
    });
    if (record_.made.rootfs_device) watch_rootfs_device();
}

void Instance::watch_rootfs_device() {
    const auto service = rootfs_device_service(name());
    device_watch_ = context_.systemd.watch_unit(service, [this, service](const UnitState& unit) {
        context_.manager.rootfs_changed(*this, service, unit);
    });
}

void Instance::stop_watching() {
    unit_watch_.reset();
    session_watch_.reset();
    rootfs_watch_.reset();
    device_watch_.reset();
    answer_rootfs(fail(ECANCELED, "the VM is going away"));
}

void Instance::clean_up(std::function<void()> done) {
    stop_watching();
    auto made = record_.made;
    made.unit = false; // it has ended
    cleanup_ = std::make_unique<Teardown>(
        context_, name(), made, [done = std::move(done)](const Result<>&) { done(); }
    );
}

void Instance::change_vm_state(VmState state, std::function<void(Result<>)> handler) {
    const bool pause = state == VmState::Paused;
    const auto wanted = pause ? InstanceState::Paused : InstanceState::Running;
    if (!is_live() || has_job() || is_cleaning() || is_changing()) {
        handler(fail_named(restore1::error::kInstanceBusy, EBUSY, "{} is {}", name(), state_word())
        );
        return;
    }
    const HttpRequest request{
        .socket_path = paths::vm_api_socket(name()),
        .method = "PATCH",
        .path = "/vm",
        .body = vm_state_body(state),
        .timeout = kPauseLimit,
    };
    request_ = context_.vmm.send(
        request,
        [this, pause, wanted, handler = std::move(handler)](const Result<HttpReply>& reply) {
            const auto finished = std::move(request_);
            const auto refused = judge_reply(
                reply, pause ? "pause" : "resume",
                pause ? kErrorFailed : restore1::error::kResumeFailed,
                restore1::error::kVmmUnreachable
            );
            if (refused) {
                handler(fail_named(refused->name, EIO, "{}", refused->message));
            } else {
                if (record_.state != wanted && may_follow(record_.state, wanted)) set_state(wanted);
                handler({});
            }
            context_.manager.vm_state_changed();
        }
    );
}

LogFields Instance::log_fields() const {
    auto fields = vm_fields(record_.name);
    fields.push_back({"THAW_IMAGE", record_.image});
    return fields;
}

std::string Instance::backend_word() const {
    return record_.backend == Backend::Auto ? "" : std::string(kBackendNames.name(record_.backend));
}

} // namespace thaw::restore
