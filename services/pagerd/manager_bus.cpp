// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "build_config.hpp"
#include "bus/flags.hpp"
#include "bus/vtable.hpp"
#include "create_request.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "session_socket.hpp"

#include <utility>

namespace thaw::pagerd {

namespace {

constexpr Microseconds kStoreTimeout = 5 * kUsecPerSec;

} // namespace

Result<> Manager::export_objects() {
    auto& bus = context_.bus;
    THAW_TRY(auto manager, bus.add_object_manager(pager1::kPath));
    exported_.push_back(std::move(manager));
    THAW_TRY(auto root, bus.add_object(pager1::kPath, pager1::kManagerInterface, kVtable, this));
    exported_.push_back(std::move(root));
    THAW_TRY(
        auto objects, bus.add_objects(
                          pager1::kSessionPrefix, pager1::kSessionInterface, Session::kVtable,
                          [this](const std::string& path) -> void* {
                              const auto name = decode_object_path(pager1::kSessionPrefix, path);
                              if (!name) return nullptr;
                              if (const auto session = find(*name)) return *session;
                              // An object that was just removed is still asked for by its last
                              // signal.
                              for (const auto& session : ended_)
                                  if (session->path() == path && session->is_published())
                                      return session.get();
                              return nullptr;
                          }
                      )
    );
    exported_.push_back(std::move(objects));
    THAW_TRY(auto enumerator, bus.add_enumerator(pager1::kSessionPrefix, [this] {
        std::vector<std::string> paths;
        for (const auto& [name, session] : sessions_)
            if (session->is_published()) paths.push_back(session->path());
        return paths;
    }));
    exported_.push_back(std::move(enumerator));
    return {};
}

// Asked for each call: sd-bus's own check would wait for the bus driver's answer.
void Manager::authorize(BusMessage message, std::function<void(BusMessage&)> then) {
    auto question = context_.bus.new_call(
        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
        "GetConnectionUnixUser"
    );
    if (question)
        if (auto filled = question->append("s", message.sender().c_str()); !filled)
            question = std::unexpected(std::move(filled).error());
    const auto id = next_question_++;
    auto slot = context_.bus.call(
        std::move(question),
        [this, id, message, then = std::move(then)](Result<BusMessage> reply) mutable {
            const auto done = questions_.extract(id);
            std::uint32_t uid = UINT32_MAX;
            const bool known = reply && reply->read("u", &uid);
            if (known && uid == 0) return then(message);
            log_event(
                LogLevel::Warning, message_id::kAccessDenied, {},
                "a call of {} by uid {} was refused", message.sender(),
                known ? std::to_string(uid) : "unknown"
            );
            message.reply_error(Error(kErrorAccessDenied, EACCES, "only for uid 0"));
        }
    );
    questions_.emplace(id, Question{std::move(slot)});
}

Result<> Manager::method_create(BusMessage message) {
    authorize(std::move(message), [this](BusMessage& call) { do_create(call); });
    return {};
}

void Manager::do_create(BusMessage& message) {
    auto request = read_create_request(message, loaded_.config);
    if (!request) return message.reply_error(request.error());
    auto session = create(std::move(*request));
    if (!session) return message.reply_error(session.error());
    // The answer waits until PID 1 has the descriptors: from then on the session survives us.
    const auto name = (*session)->name();
    auto barrier = NotifyBarrier::send(context_.loop, kStoreTimeout, [this, name](Result<> stored) {
        finish_create(name, std::move(stored));
    });
    creations_.emplace(name, Creation{message, nullptr});
    if (barrier)
        creations_.at(name).barrier = std::move(*barrier);
    else
        finish_create(name, std::unexpected(std::move(barrier).error()));
}

void Manager::finish_create(const std::string& name, Result<> stored) {
    auto creation = creations_.extract(name);
    if (!creation) return;
    auto& call = creation.mapped().call;
    auto& session = *sessions_.at(name);
    if (!stored) {
        session.abandon();
        return call.reply_error(std::move(stored).error().with_context("store the session"));
    }
    session.publish();
    announce(session);
    log_event(
        LogLevel::Info, message_id::kSessionCreated, session.log_fields(),
        "{}: waiting for {} to hand over {} of memory", name, session.unit(),
        format_size(session.memory().info().memory_size)
    );
    const auto socket = session_socket_path(loaded_.config.runtime_directory, name);
    if (auto sent = call.reply("os", session.path().c_str(), socket.c_str()); !sent)
        log_warning(session.log_fields(), "{}", sent.error().message());
}

// Whoever asked for the session may have changed its mind before it heard of it.
bool Manager::cancel_create(const std::string& name) {
    const auto creation = creations_.extract(name);
    if (!creation) return false;
    sessions_.at(name)->abandon();
    creation.mapped().call.reply_error(
        Error(pager1::error::kNoSuchSession, ECANCELED, "the session was closed before it was made")
    );
    return true;
}

void Manager::announce(Session& session) {
    ++broker_.sessions_made;
    auto& bus = context_.bus;
    auto sent = bus.emit_object_added(session.path());
    if (sent)
        sent = bus.emit_signal(
            pager1::kPath, pager1::kManagerInterface, "SessionNew", "so", session.name().c_str(),
            session.path().c_str()
        );
    if (!sent) log_warning("{}", sent.error().message());
    announce_count();
    update_status();
}

void Manager::announce_count() {
    auto sent = context_.bus.emit_properties_changed(
        pager1::kPath, pager1::kManagerInterface, {"NSessions"}
    );
    if (!sent) log_warning("{}", sent.error().message());
}

Result<> Manager::method_close(BusMessage message) {
    const char* name = nullptr;
    THAW_CHECK(message.read("s", &name));
    return request_change(name, Session::Change::Close, std::move(message));
}

// The cursor of `message` stands before the arguments, the flags being the last of them.
Result<>
Manager::request_change(const std::string& name, Session::Change change, BusMessage message) {
    authorize(std::move(message), [this, name, change](BusMessage& call) {
        do_change(name, change, call);
    });
    return {};
}

void Manager::do_change(const std::string& name, Session::Change change, BusMessage& message) {
    if (change != Session::Change::SetPrefetch) {
        if (const auto flags = read_flags(message); !flags)
            return message.reply_error(flags.error());
    }
    if (change == Session::Change::Close && cancel_create(name)) {
        if (auto sent = message.reply_empty(); !sent) log_warning("{}", sent.error().message());
        return;
    }
    auto session = find(name);
    if (!session) return message.reply_error(session.error());
    switch (change) {
    case Session::Change::Close:
        (*session)->close();
        if (auto sent = message.reply_empty(); !sent) log_warning("{}", sent.error().message());
        return;
    case Session::Change::TakeRecording:
        return (*session)->take_recording(message);
    case Session::Change::SetPrefetch:
        return (*session)->set_prefetch(message);
    case Session::Change::Quiesce:
        return (*session)->quiesce(message);
    case Session::Change::Resume:
        return (*session)->resume(message);
    case Session::Change::Complete:
        return (*session)->complete(message);
    case Session::Change::StartTracking:
        return (*session)->start_tracking(message);
    case Session::Change::StopTracking:
        return (*session)->stop_tracking(message);
    case Session::Change::TakeDirty:
        return (*session)->take_dirty(message);
    }
}

Result<> Manager::method_get(BusMessage message) {
    const char* name = nullptr;
    THAW_CHECK(message.read("s", &name));
    THAW_TRY(const auto* session, find(name));
    return message.reply("o", session->path().c_str());
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the signature of a bus method
Result<> Manager::method_list(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(ssssto)"));
    for (const auto& [name, session] : sessions_) {
        if (!session->is_published()) continue;
        THAW_CHECK(reply.append(
            "(ssssto)", name.c_str(), session->id().c_str(), session->unit().c_str(),
            std::string(kSessionStateNames.name(session->state())).c_str(),
            session->memory().info().memory_size, session->path().c_str()
        ));
    }
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> Manager::property_version(BusMessage& reply) const {
    return reply.append("s", THAW_VERSION);
}
Result<> Manager::property_count(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(published()));
}
Result<> Manager::property_max_sessions(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(loaded_.config.max_sessions));
}
template <auto Count>
Result<> Manager::append_count(BusMessage& reply) const {
    return reply.append("t", broker_.*Count);
}
Result<> Manager::property_stored(BusMessage& reply) const {
    return reply.append("t", static_cast<std::uint64_t>(store_.held()));
}
Result<> Manager::property_safe_mode(BusMessage& reply) const {
    return reply.append("b", static_cast<int>(broker_.safe_mode));
}

Result<> Manager::property_throttle(BusMessage& reply) const {
    return reply.append("s", std::string(chunks_->throttle().state()).c_str());
}
template <auto Count>
Result<> Manager::append_throttle(BusMessage& reply) const {
    return reply.append("t", chunks_->throttle().counters().*Count);
}

const sd_bus_vtable Manager::kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY(
        "Version", "s", (bus_property<Manager, &Manager::property_version>), 0,
        SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_PROPERTY(
        "NSessions", "u", (bus_property<Manager, &Manager::property_count>), 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "MaxSessions", "u", (bus_property<Manager, &Manager::property_max_sessions>), 0,
        SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_PROPERTY(
        "SafeMode", "b", (bus_property<Manager, &Manager::property_safe_mode>), 0,
        SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_PROPERTY(
        "SessionsMade", "t",
        (bus_property<Manager, &Manager::append_count<&Broker::sessions_made>>), 0, 0
    ),
    SD_BUS_PROPERTY(
        "SessionsFailed", "t",
        (bus_property<Manager, &Manager::append_count<&Broker::sessions_failed>>), 0, 0
    ),
    SD_BUS_PROPERTY(
        "WorkersLost", "t", (bus_property<Manager, &Manager::append_count<&Broker::workers_lost>>),
        0, 0
    ),
    SD_BUS_PROPERTY(
        "StoredDescriptors", "t", (bus_property<Manager, &Manager::property_stored>), 0, 0
    ),
    SD_BUS_PROPERTY(
        "DirtyThrottle", "s", (bus_property<Manager, &Manager::property_throttle>), 0, 0
    ),
    SD_BUS_PROPERTY(
        "DirtyThrottled", "t",
        (bus_property<
            Manager, &Manager::append_throttle<&metrics::DirtyThrottle::Counters::throttled>>),
        0, 0
    ),
    SD_BUS_PROPERTY(
        "DirtyThrottleLooks", "t",
        (bus_property<
            Manager, &Manager::append_throttle<&metrics::DirtyThrottle::Counters::looks>>),
        0, 0
    ),
    // Changing calls are open here and closed by authorize().
    SD_BUS_METHOD_WITH_ARGS(
        "CreateSession",
        SD_BUS_ARGS("s", name, "s", unit, "a{sh}", files, "a{sv}", options, "t", flags),
        SD_BUS_RESULT("o", session, "s", socket), (bus_method<Manager, &Manager::method_create>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "CloseSession", SD_BUS_ARGS("s", name, "t", flags), SD_BUS_NO_RESULT,
        (bus_method<Manager, &Manager::method_close>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "GetSession", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", session),
        (bus_method<Manager, &Manager::method_get>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "ListSessions", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssssto)", sessions),
        (bus_method<Manager, &Manager::method_list>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "ServeRootfs",
        SD_BUS_ARGS("s", name, "s", unit, "a{sh}", files, "a{sv}", options, "t", flags),
        SD_BUS_RESULT("s", socket), (bus_method<Manager, &Manager::method_serve_rootfs>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "ReleaseRootfs", SD_BUS_ARGS("s", name, "t", flags), SD_BUS_NO_RESULT,
        (bus_method<Manager, &Manager::method_release_rootfs>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "ListRootfs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sssu)", sources),
        (bus_method<Manager, &Manager::method_list_rootfs>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_SIGNAL_WITH_ARGS("SessionNew", SD_BUS_ARGS("s", name, "o", session), 0),
    SD_BUS_SIGNAL_WITH_ARGS("SessionRemoved", SD_BUS_ARGS("s", name, "o", session, "s", result), 0),
    SD_BUS_VTABLE_END,
};

} // namespace thaw::pagerd
