// SPDX-License-Identifier: MIT
#include "pager_client.hpp"

#include "api/pager1.hpp"
#include "bus/properties.hpp"
#include "event/priorities.hpp"
#include "pager_call.hpp"

#include <fcntl.h>

#include <string_view>

namespace thaw::restore {

namespace {

constexpr Microseconds kChangeLimit = 15 * kUsecPerSec;
constexpr Microseconds kTakeLimit = 35 * kUsecPerSec; // a worker vouches within 30 s
constexpr Microseconds kReadLimit = 2 * kUsecPerSec;
constexpr Microseconds kReadRetry = kUsecPerSec;
constexpr const char* kProperties = "org.freedesktop.DBus.Properties";

std::string session_path(const std::string& name) {
    return encode_object_path(pager1::kSessionPrefix, name);
}

Result<> read_property(BusMessage& message, std::string_view name, PagerSession& session) {
    std::string* text = nullptr;
    if (name == "State") text = &session.state;
    if (name == "ErrorName") text = &session.error_name;
    if (name == "ErrorMessage") text = &session.error_message;
    if (name == "ImageId") text = &session.image_id;
    if (name == "PopulateState") text = &session.populate;
    if (name == "Tracking") text = &session.tracking;
    if (text != nullptr) {
        const char* value = nullptr;
        THAW_CHECK(message.read("v", "s", &value));
        *text = value;
        return {};
    }
    if (name == "StopPending") {
        int value = 0;
        THAW_CHECK(message.read("v", "b", &value));
        session.stop_pending = value != 0;
        return {};
    }
    return message.skip("v");
}

Result<PagerSession> parse_session(BusMessage& message) {
    PagerSession session{.present = true};
    THAW_CHECK(for_each_property(message, [&](std::string_view name) {
        return read_property(message, name, session);
    }));
    return session;
}

Result<PagerSession> session_of(Result<BusMessage> reply) {
    if (reply) return parse_session(*reply);
    const auto name = reply.error().bus_name();
    if (name == kErrorUnknownObject || name == pager1::error::kNoSuchSession) return PagerSession{};
    return std::unexpected(std::move(reply).error());
}

Result<std::vector<SessionEntry>> parse_list(Result<BusMessage> reply) {
    if (!reply) return std::unexpected(std::move(reply).error());
    std::vector<SessionEntry> entries;
    THAW_CHECK(reply->enter_container('a', "(ssssto)"));
    while (true) {
        THAW_TRY(const bool more, reply->enter_container('r', "ssssto"));
        if (!more) return entries;
        const char *name = nullptr, *id = nullptr, *unit = nullptr, *state = nullptr;
        const char* path = nullptr;
        std::uint64_t size = 0;
        THAW_CHECK(reply->read("ssssto", &name, &id, &unit, &state, &size, &path));
        THAW_CHECK(reply->exit_container());
        entries.push_back({name, unit, state});
    }
}

} // namespace

// One watched session: reads are merged, a change during a read makes another one.
class PagerClient::Watch : public PagerOperation {
public:
    Watch(
        PagerClient& client, const std::string& path,
        std::function<void(const PagerSession&)> handler
    )
        : client_(client), path_(path),
          handler_(std::make_shared<std::function<void(const PagerSession&)>>(std::move(handler))) {
        position_ = client_.watches_.emplace(path, this);
        read();
    }
    ~Watch() override { client_.watches_.erase(position_); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    void refresh() {
        if (reading_)
            again_ = true;
        else
            read();
    }

private:
    void read() {
        reading_ = true;
        retry_.reset();
        call_ = client_.bus_.call(
            client_.make_read(path_),
            [this](Result<BusMessage> reply) { on_reply(session_of(std::move(reply))); }, kReadLimit
        );
    }

    void on_reply(Result<PagerSession> session) {
        reading_ = false;
        if (std::exchange(again_, false)) {
            read();
            return;
        }
        if (!session) return read_later();
        if (told_ == *session) return;
        told_ = *session;
        const auto state = *session;
        const auto handler = handler_;
        (*handler)(state); // `this` may be gone now
    }

    // Until then the last state holds. The return of a broker that is gone makes us read as well;
    // that of one that was only slow, or that refused, nobody tells.
    void read_later() {
        auto timer = client_.loop_.add_timer(
            kReadRetry, [this] { refresh(); }, "pager-watch", priority::kTimer
        );
        THAW_INVARIANT(timer.has_value());
        retry_ = std::move(*timer);
    }

    PagerClient& client_;
    std::string path_;
    std::shared_ptr<std::function<void(const PagerSession&)>> handler_;
    std::multimap<std::string, Watch*>::iterator position_;
    std::optional<PagerSession> told_;
    bool reading_ = false;
    bool again_ = false;
    EventSource retry_;
    BusSlot call_;
};

Result<> PagerClient::start(std::function<void()> appeared) {
    register_bus_errors(pager1::kErrors);
    THAW_TRY(
        auto changed,
        bus_.match_rule(
            fmt::format(
                "type='signal',sender='{}',path_namespace='{}',interface='{}',"
                "member='PropertiesChanged',arg0='{}'",
                pager1::kBusName, pager1::kSessionPrefix, kProperties, pager1::kSessionInterface
            ),
            [this](BusMessage& m) {
                if (const char* path = sd_bus_message_get_path(m.get())) refresh(path);
            }
        )
    );
    matches_.push_back(std::move(changed));
    for (const char* member : {"SessionNew", "SessionRemoved"}) {
        THAW_TRY(
            auto slot, bus_.match_signal(
                           pager1::kBusName, pager1::kPath, pager1::kManagerInterface, member,
                           [this](BusMessage& m) {
                               const char* name = nullptr;
                               if (m.read("s", &name)) refresh(session_path(name));
                           }
                       )
        );
        matches_.push_back(std::move(slot));
    }
    THAW_TRY(
        auto owner, bus_.watch_name_owner(
                        pager1::kBusName,
                        [this, appeared = std::move(appeared)](const std::string& name) {
                            if (name.empty()) return;
                            refresh_all();
                            appeared();
                        }
                    )
    );
    matches_.push_back(std::move(owner));
    return {};
}

void PagerClient::refresh(const std::string& path) {
    const auto [first, last] = watches_.equal_range(path);
    for (auto it = first; it != last; ++it)
        it->second->refresh(); // only sends
}

void PagerClient::refresh_all() {
    for (const auto& [path, watch] : watches_)
        watch->refresh();
}

Result<BusMessage> PagerClient::make_read(const std::string& path) const {
    THAW_TRY(auto message, bus_.new_call(pager1::kBusName, path, kProperties, "GetAll"));
    sd_bus_message_set_auto_start(message.get(), 0);
    THAW_CHECK(message.append("s", pager1::kSessionInterface));
    return message;
}

namespace {

Result<> append_remote(BusMessage& message, const RemoteMemory& remote) {
    const auto& identity = remote.identity;
    if (!remote.url.empty())
        THAW_CHECK(message.append("{sv}", "MemoryUrl", "s", remote.url.c_str()));
    THAW_CHECK(message.append("{sv}", "MemoryLength", "t", identity.length));
    THAW_CHECK(message.append("{sv}", "MemoryETag", "s", identity.etag.c_str()));
    return message.append("{sv}", "MemoryModified", "s", identity.last_modified.c_str());
}

} // namespace

Result<BusMessage> PagerClient::make_create(const SessionRequest& request) const {
    THAW_TRY(
        auto message,
        bus_.new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "CreateSession")
    );
    THAW_CHECK(message.append("ss", request.name.c_str(), request.unit.c_str()));
    THAW_CHECK(message.open_container('a', "{sh}"));
    if (!request.remote) {
        THAW_CHECK(message.append("{sh}", "memory", request.memory_fd));
    } else if (request.remote->file_fd >= 0) {
        THAW_CHECK(message.append("{sh}", "remote-memory", request.remote->file_fd));
    }
    THAW_CHECK(message.append("{sh}", "map", request.map_fd));
    if (request.working_set_fd >= 0)
        THAW_CHECK(message.append("{sh}", "working-set", request.working_set_fd));
    if (request.layers_fd >= 0) THAW_CHECK(message.append("{sh}", "layers", request.layers_fd));
    for (std::size_t i = 0; i < request.base_fds.size(); ++i) {
        const auto key = fmt::format("base-{}", i + 1);
        THAW_CHECK(message.append("{sh}", key.c_str(), request.base_fds[i]));
    }
    THAW_CHECK(message.close_container());
    THAW_CHECK(message.open_container('a', "{sv}"));
    THAW_CHECK(message.append("{sv}", "ImageId", "s", request.image_id.c_str()));
    THAW_CHECK(message.append("{sv}", "ImageName", "s", request.image_name.c_str()));
    THAW_CHECK(message.append("{sv}", "MemorySize", "t", request.memory_size));
    THAW_CHECK(message.append("{sv}", "PageSize", "t", request.page_size));
    THAW_CHECK(message.append("{sv}", "Prefetch", "b", request.prefetch ? 1 : 0));
    for (const auto& [key, value] :
         {std::pair{"PrefetchRate", request.prefetch_rate},
          {"ReplayBudget", request.replay_budget},
          {"SequentialBudget", request.sequential_budget}})
        if (value) THAW_CHECK(message.append("{sv}", key, "t", *value));
    if (request.remote) THAW_CHECK(append_remote(message, *request.remote));
    if (request.recording) THAW_CHECK(message.append("{sv}", "Recording", "b", 1));
    if (request.track) THAW_CHECK(message.append("{sv}", "Track", "b", 1));
    if (!request.on_pager_loss.empty())
        THAW_CHECK(message.append("{sv}", "OnPagerLoss", "s", request.on_pager_loss.c_str()));
    THAW_CHECK(message.close_container());
    THAW_CHECK(message.append("t", std::uint64_t{0}));
    return message;
}

PagerHandle PagerClient::create_session(
    const SessionRequest& request, std::function<void(Result<CreatedSession>)> handler
) {
    auto answered = [handler = std::move(handler)](Result<BusMessage> reply) {
        if (!reply) {
            handler(std::unexpected(std::move(reply).error()));
            return;
        }
        const char *path = nullptr, *socket = nullptr;
        if (auto done = reply->read("os", &path, &socket); !done)
            handler(std::unexpected(std::move(done).error()));
        else
            handler(CreatedSession{path, socket});
    };
    return std::make_unique<PagerCall>(
        bus_, make_create(request), std::move(answered), kPagerCreateLimit
    );
}

PagerHandle
PagerClient::close_session(const std::string& name, std::function<void(Result<>)> handler) {
    auto message =
        bus_.new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "CloseSession");
    if (message)
        if (auto filled = message->append("st", name.c_str(), std::uint64_t{0}); !filled)
            message = std::unexpected(std::move(filled).error());
    auto answered = [handler = std::move(handler)](Result<BusMessage> reply) {
        if (reply || reply.error().bus_name() == pager1::error::kNoSuchSession)
            handler({});
        else
            handler(std::unexpected(std::move(reply).error()));
    };
    return std::make_unique<PagerCall>(
        bus_, std::move(message), std::move(answered), kPagerCallLimit
    );
}

PagerHandle
PagerClient::list_sessions(std::function<void(Result<std::vector<SessionEntry>>)> handler) {
    return std::make_unique<PagerCall>(
        bus_,
        bus_.new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "ListSessions"),
        [handler = std::move(handler)](Result<BusMessage> reply) {
            handler(parse_list(std::move(reply)));
        },
        kPagerCallLimit
    );
}

PagerHandle PagerClient::read_session(
    const std::string& name, std::function<void(Result<PagerSession>)> handler
) {
    return std::make_unique<PagerCall>(
        bus_, make_read(session_path(name)),
        [handler = std::move(handler)](Result<BusMessage> reply) {
            handler(session_of(std::move(reply)));
        },
        kReadLimit
    );
}

PagerHandle PagerClient::read_number(
    const std::string& name, const char* property,
    std::function<void(Result<std::uint64_t>)> handler
) {
    auto message = bus_.new_call(pager1::kBusName, session_path(name), kProperties, "Get");
    if (message) {
        sd_bus_message_set_auto_start(message->get(), 0);
        if (auto filled = message->append("ss", pager1::kSessionInterface, property); !filled)
            message = std::unexpected(std::move(filled).error());
    }
    auto answered = [handler = std::move(handler)](Result<BusMessage> reply) {
        if (!reply && reply.error().bus_name() == kErrorUnknownObject)
            return handler(fail(ENXIO, "no such session"));
        if (!reply) return handler(std::unexpected(std::move(reply).error()));
        std::uint64_t value = 0;
        if (auto done = reply->read("v", "t", &value); !done)
            return handler(std::unexpected(std::move(done).error()));
        handler(value);
    };
    return std::make_unique<PagerCall>(bus_, std::move(message), std::move(answered), kReadLimit);
}

PagerHandle PagerClient::change_session(
    const std::string& name, const char* member, std::function<void(Result<>)> handler
) {
    auto message =
        bus_.new_call(pager1::kBusName, session_path(name), pager1::kSessionInterface, member);
    if (message)
        if (auto filled = message->append("t", std::uint64_t{0}); !filled)
            message = std::unexpected(std::move(filled).error());
    auto answered = [handler = std::move(handler)](Result<BusMessage> reply) {
        if (!reply) return handler(std::unexpected(std::move(reply).error()));
        handler({});
    };
    return std::make_unique<PagerCall>(bus_, std::move(message), std::move(answered), kChangeLimit);
}

PagerHandle
PagerClient::take_recording(const std::string& name, std::function<void(Result<Fd>)> handler) {
    return take_file(name, "TakeRecording", std::move(handler));
}

PagerHandle
PagerClient::take_dirty(const std::string& name, std::function<void(Result<Fd>)> handler) {
    return take_file(name, "TakeDirty", std::move(handler));
}

PagerHandle PagerClient::take_file(
    const std::string& name, const char* member, std::function<void(Result<Fd>)> handler
) {
    auto message =
        bus_.new_call(pager1::kBusName, session_path(name), pager1::kSessionInterface, member);
    if (message)
        if (auto filled = message->append("t", std::uint64_t{0}); !filled)
            message = std::unexpected(std::move(filled).error());
    auto answered = [handler = std::move(handler)](Result<BusMessage> reply) {
        if (!reply) return handler(std::unexpected(std::move(reply).error()));
        int fd = -1;
        if (auto done = reply->read("h", &fd); !done)
            return handler(std::unexpected(std::move(done).error()));
        // The message keeps its own.
        Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
        if (!copy) return handler(fail_errno(errno, "duplicate what the pager sent"));
        handler(std::move(copy));
    };
    return std::make_unique<PagerCall>(bus_, std::move(message), std::move(answered), kTakeLimit);
}

PagerHandle PagerClient::watch_session(
    const std::string& name, std::function<void(const PagerSession&)> handler
) {
    return std::make_unique<Watch>(*this, session_path(name), std::move(handler));
}

} // namespace thaw::restore
