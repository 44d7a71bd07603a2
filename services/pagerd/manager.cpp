// SPDX-License-Identifier: MIT
#include "manager.hpp"

#include "api/pager1.hpp"
#include "api/source_errors.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <sys/random.h>

#include <algorithm>
#include <utility>

namespace thaw::pagerd {

namespace {

// A stuck worker is seen after at most this part of WorkerStuckSec= more.
constexpr unsigned kLooksPerLimit = 4;

Result<std::array<std::uint8_t, 16>> random_id() {
    std::array<std::uint8_t, 16> id{};
    if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
        return fail_errno(errno, "make a random id");
    return id;
}

} // namespace

Manager::Manager(DaemonContext context, LoadedConfig loaded)
    : context_(std::move(context)), loaded_(std::move(loaded)),
      inherited_(sort_inherited(std::move(context_.listen_fds))),
      systemd_(context_.bus, context_.loop),
      store_(loaded_.config.store_capacity, inherited_.stored), images_(store_),
      ending_(context_.loop),
      broker_{context_.loop, context_.bus, systemd_, store_, images_, ending_, loaded_.config},
      rootfs_(broker_) {}

Result<> Manager::start() {
    register_bus_errors(pager1::kErrors);
    register_bus_errors(source_error::kErrors);
    log_config_warnings(loaded_.warnings);
    // A start that cannot be counted is no reason not to serve.
    if (auto counted = count_start(); !counted) log_warning("{}", counted.error().message());
    THAW_CHECK(systemd_.start());
    const auto& config = loaded_.config;
    THAW_TRY(
        chunks_, ChunkCache::create(
                     context_.loop, context_.bus, store_,
                     {
                         .budget = config.cache,
                         .directory = config.cache_directory,
                         .keep_free = config.cache_keep_free,
                         .idle = config.cache_idle,
                         .fetch_socket = config.fetch_socket,
                     }
                 )
    );
    broker_.chunks = chunks_.get();
    THAW_TRY(chunks_bus_, ChunkCacheBus::create(context_.bus, *chunks_));
    THAW_CHECK(export_objects());
    Fd control = std::move(inherited_.control);
    adopt_all(std::move(inherited_));
    THAW_TRY(
        control_, ControlSocket::open(
                      context_.loop, std::move(control), loaded_.config.control_path(),
                      [this](protocol::HelloMessage hello, Fd channel, Peer peer) {
                          on_hello(std::move(hello), std::move(channel), std::move(peer));
                      }
                  )
    );
    THAW_TRY(
        tick_, context_.loop.add_timer(
                   loaded_.config.worker_stuck / kLooksPerLimit, [this] { on_tick(); },
                   "worker-check", priority::kVital
               )
    );
    return {};
}

void Manager::on_tick() {
    const auto now = now_monotonic();
    for (const auto& [name, session] : sessions_)
        session->check_worker(now);
    // Without a session there is nobody to look after; the next one begins anew.
    ticking_ = false;
    if (!sessions_.empty()) tick_later();
}

void Manager::tick_later() {
    if (std::exchange(ticking_, true)) return;
    if (auto armed = tick_.rearm(loaded_.config.worker_stuck / kLooksPerLimit); !armed)
        log_error("{}", armed.error().message());
}

std::size_t Manager::published() const {
    return static_cast<std::size_t>(std::ranges::count_if(sessions_, [](const auto& entry) {
        return entry.second->is_published();
    }));
}

std::string Manager::status_text() const {
    return fmt::format(
        "{}{} sessions, {} descriptors stored.", broker_.safe_mode ? "Safe mode. " : "",
        published(), store_.held()
    );
}

void Manager::update_status() {
    auto text = status_text();
    if (text == status_) return;
    status_ = std::move(text);
    notify_status(status_);
}

Result<Session*> Manager::find(std::string_view name) const {
    const auto found = sessions_.find(name);
    if (found == sessions_.end() || !found->second->is_published())
        return fail_named(pager1::error::kNoSuchSession, ENXIO, "no session '{}'", name);
    return found->second.get();
}

Result<> Manager::check_room(const CreateRequest& request) const {
    const auto& config = loaded_.config;
    const auto& info = request.info;
    if (broker_.safe_mode)
        return fail_named(
            pager1::error::kSafeMode, EAGAIN, "the pager restarts too often, nothing new is taken"
        );
    if (sessions_.contains(info.name))
        return fail_named(pager1::error::kSessionExists, EEXIST, "{} has a session", info.name);
    if (sessions_.size() >= config.max_sessions)
        return fail_named(
            pager1::error::kTooManySessions, EAGAIN, "{} sessions, MaxSessions= is reached",
            sessions_.size()
        );
    const bool known = images_.contains(image_key(info.image_id, request.remote.has_value()));
    const std::size_t fresh = known ? 0 : request.files.count();
    const std::size_t images =
        images_.descriptors() + chunks_->descriptors() + rootfs_.descriptors();
    if (!store_has_room(store_.capacity(), sessions_.size(), images, fresh)) {
        log_event(
            LogLevel::Error, message_id::kStoreFull, {{"THAW_INSTANCE", info.name}},
            "{}: the descriptor store ({}) has no room for another session", info.name,
            store_.capacity()
        );
        return fail_named(
            pager1::error::kStoreFull, ENOSPC, "the descriptor store holds {} of {}", store_.held(),
            store_.capacity()
        );
    }
    return {};
}

// What a worker gets of a remote image: the bytes of the cache and the map of them, to read.
Result<> Manager::open_chunks(CreateRequest& request) {
    if (!request.remote) return {};
    auto& info = request.info;
    const auto& id = info.image_id;
    THAW_TRY(
        const auto* chunks, chunks_->open(
                                hex_encode(id.data(), id.size()), std::move(*request.remote),
                                request.files.map.get(), info.memory_size
                            )
    );
    THAW_TRY(request.files.memory, protocol::reopen_read_only(chunks->files()->data.get()));
    THAW_TRY(request.files.chunk_view, protocol::reopen_read_only(chunks->map().fd()));
    info.flags |= protocol::kFlagChunked;
    return {};
}

Result<Session*> Manager::create(CreateRequest request) {
    THAW_TRY(request.info.session_id, random_id());
    // An image without an id of its own is nobody else's.
    if (request.info.image_id == decltype(request.info.image_id){})
        request.info.image_id = request.info.session_id;
    THAW_CHECK(check_room(request));
    THAW_CHECK(open_chunks(request));
    THAW_TRY(auto memory, protocol::SessionMemory::create(request.info));
    const bool chunked = (request.info.flags & protocol::kFlagChunked) != 0;
    THAW_TRY(
        const auto* image,
        images_.acquire(image_key(request.info.image_id, chunked), std::move(request.files))
    );
    memory.set_prefetch(request.prefetch);
    if (request.track) memory.request_tracking(true);
    auto* session = add(std::move(memory), image);
    session->set_working_set(std::move(request.working_set));
    if (auto opened = session->open(request.handshake_timeout); !opened) {
        session->abandon();
        return std::unexpected(std::move(opened).error());
    }
    return session;
}

Session* Manager::add(protocol::SessionMemory memory, const ImageSource* image) {
    auto session = std::make_unique<Session>(
        broker_, std::move(memory), image,
        [this](Session& ended, std::string_view result) { on_ended(ended, result); },
        [this](const std::string& name, Session::Change change, BusMessage message) {
            return request_change(name, change, std::move(message));
        }
    );
    auto* added = session.get();
    sessions_.emplace(added->name(), std::move(session));
    tick_later();
    return added;
}

void Manager::on_ended(Session& session, std::string_view result) {
    if (session.is_published()) {
        auto& bus = context_.bus;
        auto sent = bus.emit_object_removed(session.path());
        if (sent)
            sent = bus.emit_signal(
                pager1::kPath, pager1::kManagerInterface, "SessionRemoved", "sos",
                session.name().c_str(), session.path().c_str(), std::string(result).c_str()
            );
        if (!sent) log_warning("{}", sent.error().message());
    }
    if (const auto creation = creations_.find(session.name()); creation != creations_.end()) {
        creation->second.call.reply_error(Error(ECANCELED, "the session ended"));
        creations_.erase(creation);
    }
    const bool was_published = session.is_published();
    collect(session);
    if (was_published) announce_count();
    update_status();
}

void Manager::collect(Session& session) {
    const auto found = sessions_.find(session.name());
    THAW_INVARIANT(found != sessions_.end() && found->second.get() == &session);
    ended_.push_back(std::move(found->second));
    sessions_.erase(found);
    auto later =
        context_.loop.add_defer([this] { ended_.clear(); }, "sessions-collect", priority::kCollect);
    // Without it they are freed with the next one that ends.
    if (later) collect_source_ = std::move(*later);
}

void Manager::stop(std::function<void()> finished) {
    stop_reason_ = StopReason::ask(
        context_.loop, context_.bus,
        [this, finished = std::move(finished)](const std::string& job_type) {
            if (is_final_stop(job_type)) {
                std::vector<Session*> all;
                all.reserve(sessions_.size());
                for (const auto& [name, session] : sessions_)
                    all.push_back(session.get());
                for (auto* session : all)
                    session->broker_stopped();
            }
            forget_start();
            finished();
        }
    );
}

} // namespace thaw::pagerd
