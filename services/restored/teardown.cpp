// SPDX-License-Identifier: MIT
#include "teardown.hpp"

#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "rootfs_options.hpp"
#include "snapshot_folder.hpp"
#include "unit_drop_in.hpp"

#include <signal.h>

namespace thaw::restore {

namespace {

constexpr unsigned kCloseAttempts = 3;
constexpr Microseconds kCloseRetry = 300 * kUsecPerMsec;

} // namespace

Teardown::Teardown(const Context& context, std::string vm, const Made& made, Done done)
    : context_(context), vm_(std::move(vm)), unit_(vmm_unit(vm_)), order_(undo_order(made)),
      done_(std::move(done)) {
    arm(0, &Teardown::next);
}

void Teardown::arm(Microseconds delay, void (Teardown::*then)()) {
    auto source = context_.loop.add_timer(
        delay, [this, then] { (this->*then)(); }, "teardown", priority::kTimer
    );
    THAW_INVARIANT(source.has_value());
    timer_ = std::move(*source);
}

void Teardown::next() {
    while (at_ < order_.size()) {
        const auto undo = order_[at_++];
        if (undo == Undo::StopUnit) {
            stop_unit();
            return;
        }
        if (undo == Undo::CloseSession) {
            close_session();
            return;
        }
        if (undo == Undo::RemoveShares) {
            remove_shares();
            return;
        }
        if (undo == Undo::StopRootfs) {
            stop_rootfs();
            return;
        }
        if (undo == Undo::ReleaseBase) {
            release_base();
            return;
        }
        if (undo == Undo::RemoveDropIn) {
            remove_settings();
            return;
        }
        remove_ticket();
    }
    const auto done = std::move(done_);
    done({}); // `this` may be gone now
}

// A budget of its own, whatever was used up before.
void Teardown::stop_unit() {
    arm(kStopBudget, &Teardown::kill_unit);
    job_ = context_.systemd.stop_unit(unit_, "replace", [this](Result<std::string> result) {
        on_stop_job(std::move(result));
    });
}

void Teardown::on_stop_job(Result<std::string> result) {
    if (!result) log_warning(fields(), "cannot stop {}: {}", unit_, result.error().message());
    // The job's word is about the job; whether the VM is gone, its unit tells.
    job_ = context_.systemd.read_unit(unit_, [this](Result<UnitState> unit) {
        if (unit && unit->is_gone()) {
            timer_.reset();
            next();
        } else {
            kill_unit();
        }
    });
}

void Teardown::kill_unit() {
    log_warning(fields(), "{} did not stop: killing its processes", unit_);
    arm(kKillBudget, &Teardown::give_up);
    job_ = context_.systemd.kill_unit(unit_, "all", SIGKILL, [this](Result<> killed) {
        // Nothing left to kill is no failure; the watch decides.
        if (!killed) log_debug("kill {}: {}", unit_, killed.error().message());
        watch_ = context_.systemd.watch_unit(unit_, [this](const UnitState& u) { on_killed(u); });
    });
}

void Teardown::on_killed(const UnitState& unit) {
    if (!unit.is_gone()) return;
    timer_.reset();
    watch_.reset();
    next();
}

void Teardown::give_up() {
    // A unit that ends later is no news for us any more.
    job_.reset();
    watch_.reset();
    const auto done = std::move(done_);
    done(fail_named(
        restore1::error::kStopFailed, EBUSY, "{} neither stopped nor died when it was killed", unit_
    ));
}

void Teardown::close_session() {
    closing_ = context_.pager.close_session(vm_, [this](Result<> closed) {
        if (!closed && ++attempts_ < kCloseAttempts) {
            arm(kCloseRetry, &Teardown::close_session);
            return;
        }
        // The pager notices by itself that the VM is gone, and we look again when it appears.
        if (!closed)
            log_warning(
                fields(), "ignoring that the pager session of {} was not closed: {}", vm_,
                closed.error().message()
            );
        next();
    });
}

void Teardown::remove_shares() {
    removing_ = context_.shares.remove_shares(vm_, [this](const Result<>& removed) {
        // The supervisor ends them with the VM by itself as well.
        if (!removed)
            log_warning(
                fields(), "ignoring that the shares of {} were not removed: {}", vm_,
                removed.error().message()
            );
        next();
    });
}

void Teardown::stop_rootfs() {
    // Service and control socket stop with it.
    job_ = context_.systemd.stop_unit(rootfs_socket(vm_), "replace", [this](const auto& stopped) {
        if (!stopped)
            log_warning(
                fields(), "ignoring that the root file system of {} was not stopped: {}", vm_,
                stopped.error().message()
            );
        if (auto removed = remove_rootfs_settings(vm_); !removed)
            log_warning(fields(), "ignoring: {}", removed.error().message());
        forget_rootfs(0);
    });
}

// Units that have failed would stay loaded, with the settings of this start.
void Teardown::forget_rootfs(std::size_t at) {
    const auto units = rootfs_units(vm_);
    if (at == units.size()) {
        next();
        return;
    }
    job_ = context_.systemd.reset_failed(units[at], [this, at](const Result<>&) {
        forget_rootfs(at + 1);
    });
}

void Teardown::release_base() {
    closing_ = context_.pager.release_rootfs(vm_, [this](const Result<>& released) {
        if (!released && ++release_attempts_ < kCloseAttempts) {
            arm(kCloseRetry, &Teardown::release_base);
            return;
        }
        if (!released)
            log_warning(
                fields(), "ignoring that the pager still serves the base of {}: {}", vm_,
                released.error().message()
            );
        next();
    });
}

void Teardown::remove_settings() {
    if (auto removed = remove_drop_in(paths::vm_drop_in(vm_)); !removed)
        log_warning(fields(), "ignoring: {}", removed.error().message());
    folder_ = context_.disk.ask<void>(
        snapshot_folder_name(vm_), [vm = vm_] { return remove_snapshot_folder(vm); },
        [this](const Result<>& removed) {
            if (!removed) log_warning(fields(), "ignoring: {}", removed.error().message());
            next();
        }
    );
}

void Teardown::remove_ticket() {
    if (auto removed = remove_if_exists(paths::restore_ticket(vm_)); !removed)
        log_warning(fields(), "ignoring: {}", removed.error().message());
}

} // namespace thaw::restore
