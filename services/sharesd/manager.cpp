// SPDX-License-Identifier: MIT
#include "manager.hpp"

#include "api/shares1.hpp"
#include "core/names.hpp"
#include "event/priorities.hpp"
#include "handle_probe.hpp"
#include "limits.hpp"
#include "log/message_ids.hpp"
#include "unit_files.hpp"

#include <algorithm>

namespace thaw::sharesd {

namespace error = shares1::error;

namespace {

// Where the kernel does not say how many descriptors a process may have at most.
constexpr std::uint64_t kUsualNrOpen = 1048576;

} // namespace

Manager::Manager(DaemonContext daemon, LoadedConfig loaded)
    : daemon_(std::move(daemon)), loaded_(std::move(loaded)),
      records_(loaded_.config.runtime_directory), systemd_(daemon_.bus, daemon_.loop),
      context_{
          daemon_.loop,
          daemon_.bus,
          systemd_,
          loaded_.config,
          records_,
          probe_count_method(),
          read_nr_open().value_or(kUsualNrOpen),
          connections_
      },
      polkit_(daemon_.bus), probe_(daemon_.loop, loaded_.config.programs),
      requests_{
          .remove = [this](
                        Share& share, BusMessage message
                    ) { return request_remove(share, std::move(message)); },
          .raise_limit = [this](
                             Share& share, BusMessage message
                         ) { return request_raise_limit(share, std::move(message)); },
          .drop_caches = [this](
                             Share& share, const BusMessage& message
                         ) { return request_drop_caches(share, message); },
          .ended = [this](Share& share, std::string_view result) { on_ended(share, result); },
      } {}

Result<> Manager::start() {
    register_bus_errors(shares1::kErrors);
    log_config_warnings(loaded_.warnings);
    auto log = LogWatch::start(daemon_.loop, [this](const LogLine& line) { on_log(line); });
    // Counting goes on without; what a daemon tells nowhere else is then not known.
    if (log)
        log_ = std::move(*log);
    else
        log_warning("{}; the daemons' own words are not heard", log.error().message());
    context_.log = log_.get();
    THAW_CHECK(export_objects());
    return systemd_.start();
}

void Manager::ready() {
    load();
    update_status();
}

std::string Manager::status_text() const {
    return fmt::format("{} shares.", count_published());
}

void Manager::update_status() {
    auto text = status_text();
    if (text == status_) return;
    status_ = std::move(text);
    notify_status(status_);
}

std::size_t Manager::count_published() const {
    return static_cast<std::size_t>(std::ranges::count_if(shares_, [](const auto& row) {
        return row.second->is_published();
    }));
}

Share* Manager::find(const std::string& id) const {
    const auto found = shares_.find(id);
    return found == shares_.end() ? nullptr : found->second.get();
}

Result<Share*> Manager::find_published(const std::string& vm, const std::string& tag) const {
    auto* share = find(share_id(vm, tag));
    if (share == nullptr || !share->is_published())
        return fail_named(error::kNoSuchShare, ENXIO, "{} has no share \"{}\"", vm, tag);
    return share;
}

void Manager::on_log(const LogLine& line) {
    if (const auto found = by_service_.find(line.unit); found != by_service_.end())
        found->second->on_log(line);
}

// ---- a new share ----------------------------------------------------------------------------

Result<> Manager::check_room(const AddRequest& request) const {
    const auto id = share_id(request.vm, request.tag);
    if (shares_.contains(id) || leftovers_.contains(id))
        return fail_named(
            error::kShareExists, EEXIST, "{} has a share \"{}\"", request.vm, request.tag
        );
    if (shares_.size() >= loaded_.config.max_shares)
        return fail_named(
            error::kTooManyShares, EAGAIN, "{} shares, MaxShares= is reached", shares_.size()
        );
    THAW_CHECK(check_source_path(request.source));
    if (!is_allowed(request.source, loaded_.config.allowed_sources))
        return fail_named(
            error::kSourceNotAllowed, EPERM, "{} is not below AllowedSources= of sharesd.conf ({})",
            request.source,
            loaded_.config.allowed_sources.empty()
                ? std::string("empty: nothing is allowed")
                : fmt::format("{}", fmt::join(loaded_.config.allowed_sources, " "))
        );
    return {};
}

void Manager::refuse(const AddRequest& request, const Error& error, const BusMessage& message)
    const {
    log_event(
        LogLevel::Error, message_id::kShareRefused,
        {{"THAW_INSTANCE", request.vm},
         {"THAW_SHARE", share_id(request.vm, request.tag)},
         {"THAW_ERROR", bus_name_of(error)}},
        "share \"{}\" of {} refused: {}", request.tag, request.vm, error.message()
    );
    message.reply_error(error);
}

void Manager::add(AddRequest request, const BusMessage& message) {
    if (auto room = check_room(request); !room) return refuse(request, room.error(), message);
    probe_.ask([this, request = std::move(request), message](const Result<FoundDaemon>& daemon) {
        if (!daemon) return refuse(request, daemon.error(), message);
        add_with(request, *daemon, message);
    });
}

Result<> Manager::check_churn(const AddRequest& request, const Source& source) const {
    const auto& config = loaded_.config;
    const auto policy =
        request.options.read_only ? config.churn_read_only : config.churn_read_write;
    if (policy == ChurnPolicy::Allow) return {};
    const auto inside = find_churning_cache(request.source, config.churning_caches);
    if (inside && policy == ChurnPolicy::Refuse)
        return fail_named(
            error::kChurningCache, EPERM,
            "{} is a cache (\"{}\") whose files come and go: each costs the share's daemon a "
            "descriptor or memory. Copy it into the guest's own disk instead: thawctl cache warm "
            "{} {} DEST",
            request.source, *inside, request.vm, request.source
        );
    const auto held = inside ? inside : held_cache(source, config.churning_caches);
    if (held)
        log_event(
            LogLevel::Warning, message_id::kShareChurns,
            {{"THAW_INSTANCE", request.vm}, {"THAW_SHARE", share_id(request.vm, request.tag)}},
            "{}: {} {} a cache (\"{}\") whose files come and go; thawctl cache warm copies such a "
            "one into the guest",
            share_id(request.vm, request.tag), request.source, inside ? "is" : "holds", *held
        );
    return {};
}

// All that can be known before anything is made.
Result<> Manager::plan(
    const AddRequest& request, const FoundDaemon& daemon, Source& source, Record& record,
    std::vector<std::string>& command
) {
    THAW_TRY(source, open_source(request.source));
    THAW_CHECK(check_churn(request, source));
    const auto& options = request.options;
    HandleProbe probe;
    if (options.handles != HandleMode::Never && daemon.dialect != Dialect::C)
        probe = probe_handles(source.directory.get(), request.source);
    THAW_TRY(
        auto handles, choose_handles(options.handles, daemon.dialect, options.user.empty(), probe)
    );
    THAW_TRY(
        command, command_line(daemon.program, daemon.dialect, request.tag, options, handles.mode)
    );
    record = Record{
        .vm = request.vm,
        .tag = request.tag,
        .source = request.source,
        .program = daemon.program,
        .owner = request.owner,
        .started = now_realtime(),
        .dialect = daemon.dialect,
        .handles = handles.mode,
        .handles_reason = std::move(handles.reason),
        .limit = clamp_limit(options.limit, context_.nr_open),
        .options = options,
    };
    return {};
}

void Manager::add_with(const AddRequest& request, const FoundDaemon& daemon, BusMessage message) {
    // Somebody else may have been faster while the daemon was asked.
    if (auto room = check_room(request); !room) return refuse(request, room.error(), message);
    Source source;
    Record record;
    std::vector<std::string> command;
    if (auto planned = plan(request, daemon, source, record, command); !planned)
        return refuse(request, planned.error(), message);
    auto share = std::make_unique<Share>(context_, std::move(record), requests_);
    auto& added = *share;
    shares_.emplace(added.id(), std::move(share));
    by_service_.emplace(added.service(), &added);
    added.start(
        std::move(source), command,
        [this, &added, message](const Result<>& started) mutable {
            on_started(added, started, message);
        }
    );
}

void Manager::on_started(Share& share, const Result<>& started, BusMessage& message) {
    if (!started) return message.reply_error(started.error());
    announce(share);
    const auto& record = share.record();
    log_event(
        LogLevel::Info, message_id::kShareStarted, share.log_fields(),
        "{}: {} is shared{}, file handles {}", share.id(), record.source,
        record.options.read_only ? " read-only" : "", kHandleModeNames.name(record.handles)
    );
    // A caller that is gone learns nothing; the share stays until it is removed.
    (void)message.reply("os", share.path().c_str(), share.socket().c_str());
}

void Manager::announce(Share& share) {
    share.publish();
    auto& bus = daemon_.bus;
    (void)bus.emit_object_added(share.path());
    (void)bus.emit_signal(
        shares1::kPath, shares1::kManagerInterface, "ShareNew", "sso", share.record().vm.c_str(),
        share.record().tag.c_str(), share.path().c_str()
    );
    changed({"NShares"});
    update_status();
}

// ---- the end of one -------------------------------------------------------------------------

void Manager::on_ended(Share& share, std::string_view result) {
    const bool was_published = share.is_published();
    if (was_published) (void)daemon_.bus.emit_object_removed(share.path());
    collect(share);
    if (!was_published) return;
    (void)daemon_.bus.emit_signal(
        shares1::kPath, shares1::kManagerInterface, "ShareRemoved", "ssos",
        share.record().vm.c_str(), share.record().tag.c_str(), share.path().c_str(),
        std::string(result).c_str()
    );
    changed({"NShares"});
    update_status();
}

void Manager::collect(Share& share) {
    const auto found = shares_.find(share.id());
    THAW_INVARIANT(found != shares_.end() && found->second.get() == &share);
    by_service_.erase(share.service());
    ended_.push_back(std::move(found->second));
    shares_.erase(found);
    auto later =
        daemon_.loop.add_defer([this] { ended_.clear(); }, "shares-collect", priority::kCollect);
    // Without it they are freed with the next one that ends.
    if (later) collect_ = std::move(*later);
}

} // namespace thaw::sharesd
