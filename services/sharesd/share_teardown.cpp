// SPDX-License-Identifier: MIT
#include "share_teardown.hpp"

#include "api/shares1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "systemd/drop_in.hpp"
#include "unit_files.hpp"

#include <signal.h>
#include <unistd.h>

namespace thaw::sharesd {

namespace {

constexpr Microseconds kStopBudget = 10 * kUsecPerSec;
constexpr Microseconds kKillBudget = 5 * kUsecPerSec;

} // namespace

ShareTeardown::ShareTeardown(const Context& context, std::string vm, std::string tag, Done done)
    : context_(context), vm_(std::move(vm)), tag_(std::move(tag)),
      service_(share_service(vm_, tag_)), socket_(share_socket_unit(vm_, tag_)),
      done_(std::move(done)) {
    arm(0, &ShareTeardown::stop_units);
}

void ShareTeardown::arm(Microseconds delay, void (ShareTeardown::*then)()) {
    auto source = context_.loop.add_timer(
        delay, [this, then] { (this->*then)(); }, "share-teardown", priority::kTimer
    );
    THAW_INVARIANT(source.has_value());
    timer_ = std::move(*source);
}

void ShareTeardown::stop_units() {
    arm(kStopBudget, &ShareTeardown::kill_daemon);
    waiting_ = 2;
    const auto stopped = [this](const Result<std::string>&) {
        // The jobs' words are about the jobs; whether the daemon is gone, its unit tells.
        if (--waiting_ == 0) check();
    };
    // The socket as well, at once: it would start the daemon again.
    socket_job_ = context_.systemd.stop_unit(socket_, "replace", stopped);
    service_job_ = context_.systemd.stop_unit(service_, "replace", stopped);
}

void ShareTeardown::check() {
    watch_ = context_.systemd.read_unit(service_, [this](Result<UnitState> unit) {
        if (!unit || !unit->is_gone()) return kill_daemon();
        watch_ = context_.systemd.read_unit(socket_, [this](Result<UnitState> socket) {
            if (!socket || !socket->is_gone()) return give_up();
            remove_files();
        });
    });
}

void ShareTeardown::kill_daemon() {
    if (std::exchange(killed_, true)) return give_up();
    log_warning(
        {{"THAW_INSTANCE", vm_},
         {"THAW_SHARE", share_id(vm_, tag_)},
         {"OBJECT_SYSTEMD_UNIT", service_}},
        "{} did not stop: killing its processes", service_
    );
    arm(kKillBudget, &ShareTeardown::give_up);
    service_job_ = context_.systemd.kill_unit(service_, "all", SIGKILL, [this](const Result<>&) {
        // Nothing left to kill is no failure; the watch decides.
        watch_ = context_.systemd.watch_unit(service_, [this](const UnitState& unit) {
            if (!unit.is_gone()) return;
            watch_.reset();
            check();
        });
    });
}

void ShareTeardown::give_up() {
    timer_.reset();
    socket_job_.reset();
    service_job_.reset();
    watch_.reset();
    const auto done = std::move(done_);
    done(fail_named(
        shares1::error::kStopFailed, EBUSY, "{} or its socket neither stopped nor died", service_
    ));
}

void ShareTeardown::remove_files() {
    timer_.reset();
    const auto ignore = [this](const Result<>& removed) {
        if (!removed)
            log_warning({{"THAW_INSTANCE", vm_}}, "ignoring: {}", removed.error().message());
    };
    const auto& units = context_.config.unit_directory;
    ignore(remove_drop_in(drop_in_path(units, service_)));
    ignore(remove_drop_in(drop_in_path(units, socket_)));
    ignore(remove_if_exists(paths::share_socket(vm_, tag_)));
    // Other shares of the VM may be in there.
    (void)::rmdir(paths::share_directory(vm_).c_str());
    ignore(context_.records.remove(vm_, tag_));
    // A unit in state failed would stay loaded, with the settings of this start.
    waiting_ = 2;
    const auto reset = [this](const Result<>&) {
        if (--waiting_ == 0) finish();
    };
    service_job_ = context_.systemd.reset_failed(service_, reset);
    socket_job_ = context_.systemd.reset_failed(socket_, reset);
}

void ShareTeardown::finish() {
    const auto done = std::move(done_);
    done({}); // `this` may be gone now
}

} // namespace thaw::sharesd
