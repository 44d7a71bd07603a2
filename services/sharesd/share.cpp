// SPDX-License-Identifier: MIT
#include "share.hpp"

#include "api/shares1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "log/message_ids.hpp"
#include "systemd/drop_in.hpp"
#include "unit_files.hpp"

namespace thaw::sharesd {

namespace {

constexpr mode_t kFolderMode = 0755; // the sockets have owners of their own

// Moments of one second that a table of connections is good for.
constexpr Microseconds kConnectionsAge = 100 * kUsecPerMsec;

} // namespace

bool ConnectionTable::is_connected(const std::string& socket) {
    const auto now = now_monotonic();
    if (read_at_ == 0 || now - read_at_ > kConnectionsAge) {
        auto sockets = read_connected();
        sockets_ = sockets ? std::move(*sockets) : std::set<std::string>();
        read_at_ = now;
    }
    return sockets_.contains(socket);
}

Share::Share(const Context& context, Record record, const Requests& requests)
    : context_(context), record_(std::move(record)), requests_(requests),
      id_(share_id(record_.vm, record_.tag)), path_(encode_object_path(shares1::kSharePrefix, id_)),
      service_(share_service(record_.vm, record_.tag)),
      socket_unit_(share_socket_unit(record_.vm, record_.tag)),
      socket_(paths::share_socket(record_.vm, record_.tag)) {}

LogFields Share::log_fields() const {
    LogFields fields{
        {"THAW_INSTANCE", record_.vm}, {"THAW_SHARE", id_}, {"OBJECT_SYSTEMD_UNIT", service_}
    };
    return fields;
}

void Share::changed(std::vector<std::string> properties) {
    // Nobody may be listening yet, or the bus may be going; both are fine.
    if (published_)
        (void)context_.bus.emit_properties_changed(
            path_, shares1::kShareInterface, std::move(properties)
        );
}

// The only writer of the state.
void Share::set_state(ShareState state) {
    if (state == state_) return;
    THAW_INVARIANT(may_follow(state_, state));
    log_debug(
        log_fields(), "{}: {} -> {}", id_, kShareStateNames.name(state_),
        kShareStateNames.name(state)
    );
    state_ = state;
    changed({"State"});
}

void Share::keep() {
    if (auto saved = context_.records.save(record_); !saved)
        log_warning(log_fields(), "ignoring: {}", saved.error().message());
}

Result<> Share::write_files(const std::vector<std::string>& command) {
    const ShareUnits units{
        .vm = record_.vm,
        .tag = record_.tag,
        .source = record_.source,
        .socket = socket_,
        .command = command,
        .limit = record_.limit,
        .options = record_.options,
    };
    // The record first: what has one is taken away after a restart.
    THAW_CHECK(context_.records.save(record_));
    if (auto made = make_directories(paths::share_directory(record_.vm), kFolderMode); !made)
        return std::unexpected(std::move(made).error().with_bus_name(shares1::error::kSocketFailed)
        );
    const auto& folder = context_.config.unit_directory;
    if (auto done = write_drop_in(drop_in_path(folder, socket_unit_), socket_drop_in_text(units));
        !done)
        return done;
    return write_drop_in(drop_in_path(folder, service_), service_drop_in_text(units));
}

void Share::start(Source source, const std::vector<std::string>& command, Done done) {
    source_ = std::move(source);
    started_ = std::move(done);
    if (auto written = write_files(command); !written)
        return abandon(std::move(written).error().with_bus_name(shares1::error::kStartFailed));
    bring_up(&source_);
}

// The VM's end is the share's, once the VM has been seen alive: at a restore it starts after us.
void Share::watch_vm() {
    if (record_.options.vm_unit.empty() || vm_watch_) return;
    vm_watch_ = context_.systemd.watch_unit(record_.options.vm_unit, [this](const UnitState& unit) {
        if (!unit.is_gone()) {
            if (!std::exchange(record_.vm_seen, true)) keep();
            return;
        }
        if (record_.vm_seen && !is_ending()) remove("vm-ended", [](const Result<>&) {});
    });
}

void Share::remove(std::string_view result, Done done) {
    removals_.push_back(std::move(done));
    if (teardown_) return;
    removal_result_ = result;
    // Whoever comes after us goes on with it; one that nobody was told of is taken away in any
    // case.
    if (record_.ready && !std::exchange(record_.ending, true)) keep();
    timer_.reset();
    poll_.reset();
    bring_up_.reset();
    finding_.reset();
    service_watch_.reset();
    if (state_ != ShareState::Stopped) set_state(ShareState::Stopped);
    teardown_ =
        std::make_unique<ShareTeardown>(context_, record_.vm, record_.tag, [this](Result<> gone) {
            const auto waiting = std::exchange(removals_, {});
            const auto finished = std::move(teardown_);
            if (gone) {
                vm_watch_.reset();
                log_event(
                    LogLevel::Info, message_id::kShareRemoved, log_fields(), "{}: share over ({})",
                    id_, removal_result_
                );
                requests_.ended(*this, removal_result_);
            } else {
                lose(gone.error().bus_name(), gone.error().message());
            }
            for (const auto& answer : waiting)
                answer(gone);
        });
}

Result<> Share::raise_limit(std::uint64_t limit) {
    // Without a pid it just ended, or was not found again yet.
    if (!is_up(state_) || main_pid_ <= 0)
        return fail_named(shares1::error::kNotRunning, ESRCH, "{} does not run", service_);
    if (limit > context_.nr_open)
        return fail_named(
            kErrorInvalidArgs, ERANGE, "{} is more than fs.nr_open ({})", limit, context_.nr_open
        );
    if (limit < effective_limit_)
        return fail_named(
            kErrorInvalidArgs, ERANGE, "a limit is never lowered ({} now)", effective_limit_
        );
    for (const auto pid : {main_pid_, worker_pid_})
        if (auto raised = raise_limit_of(pid, limit); !raised)
            return std::unexpected(
                std::move(raised).error().with_bus_name(shares1::error::kLimitTooLow)
            );
    log_event(
        LogLevel::Notice, message_id::kShareLimitRaised, log_fields(),
        "{}: limit raised from {} to {}{}", id_, effective_limit_, limit,
        notices_raised_limit(record_.dialect) ? "" : "; its virtiofsd uses it after its next start"
    );
    record_.limit = std::max(record_.limit, limit);
    effective_limit_ = limit;
    keep();
    changed({"LimitNOFILE", "EffectiveLimit", "DescriptorBudget"});
    measure();
    return {};
}

Result<> Share::drop_caches() {
    const auto& name = context_.config.drop_caches_unit;
    if (name.empty())
        return fail_named(
            shares1::error::kOptionUnsupported, EOPNOTSUPP, "DropCachesUnit= is not set"
        );
    caches_dropped_ = now_monotonic();
    const auto at = name.find("@.") + 1;
    const auto unit = name.substr(0, at) + unit_escape(record_.vm) + name.substr(at);
    log_notice(log_fields(), "{}: starting {}", id_, unit);
    hook_ = context_.systemd.start_unit(unit, "replace", [this, unit](Result<std::string> result) {
        const auto why = result ? *result : result.error().message();
        if (why == "done") return;
        auto fields = log_fields();
        fields.push_back({"THAW_HOOK", unit});
        log_event(
            LogLevel::Warning, message_id::kShareHookFailed, fields,
            "{}: the guest did not drop its caches: {} ended as {}", id_, unit, why
        );
    });
    return {};
}

} // namespace thaw::sharesd
