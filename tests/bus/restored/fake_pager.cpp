// SPDX-License-Identifier: MIT
#include "fake_pager.hpp"

#include "api/pager1.hpp"
#include "bus/vtable.hpp"
#include "core/file.hpp"
#include "fakes/must.hpp"
#include "image/access_log.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace thaw::testing {

namespace {

using fakes::must;

int get_state(
    sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* userdata,
    sd_bus_error* error
) {
    auto& session = *static_cast<FakeSession*>(userdata);
    if (session.unreadable > 0) {
        --session.unreadable;
        return sd_bus_error_set(error, SD_BUS_ERROR_NO_REPLY, "scripted");
    }
    return sd_bus_message_append(reply, "s", session.state.c_str());
}

template <std::string FakeSession::* Field>
int get_text(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* session, sd_bus_error*) {
    return sd_bus_message_append(reply, "s", (static_cast<FakeSession*>(session)->*Field).c_str());
}

int get_stop_pending(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* session, sd_bus_error*) {
    return sd_bus_message_append(
        reply, "b", static_cast<FakeSession*>(session)->stop_pending ? 1 : 0
    );
}

int get_faults(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* session, sd_bus_error*) {
    const auto& faults = static_cast<FakeSession*>(session)->faults;
    return sd_bus_message_append(reply, "t", faults ? faults() : std::uint64_t{0});
}

int get_memory_size(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* session, sd_bus_error*) {
    return sd_bus_message_append(reply, "t", static_cast<FakeSession*>(session)->memory_size);
}

// As the broker makes it: an access.log in a memfd.
int take_recording(sd_bus_message* message, void* userdata, sd_bus_error*) {
    const auto& session = *static_cast<FakeSession*>(userdata);
    const image::AccessLog log{
        .id = image::parse_id(session.image_id).value_or(image::ImageId{}),
        .page_count = session.memory_size / 4096,
        .pages = session.touches,
    };
    const Fd memfd(memfd_create("recording", MFD_CLOEXEC));
    if (!write_all(memfd.get(), image::encode_access_log(log))) return -EIO;
    return sd_bus_reply_method_return(message, "h", memfd.get());
}

int change(sd_bus_message* message, void* userdata, sd_bus_error* error) {
    auto& session = *static_cast<FakeSession*>(userdata);
    const std::string member = sd_bus_message_get_member(message);
    session.changes.push_back(member);
    if (!session.change_error.empty())
        return sd_bus_error_set(error, session.change_error.c_str(), "scripted");
    if (member == "Complete") session.state = "complete";
    return sd_bus_reply_method_return(message, "");
}

} // namespace

struct FakePager::Vtables {
    static const sd_bus_vtable manager[];
    static const sd_bus_vtable session[];
};

const sd_bus_vtable FakePager::Vtables::manager[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD(
        "CreateSession", "ssa{sh}a{sv}t", "os", (bus_method<FakePager, &FakePager::method_create>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "CloseSession", "st", "", (bus_method<FakePager, &FakePager::method_close>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "ListSessions", "", "a(ssssto)", (bus_method<FakePager, &FakePager::method_list>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_SIGNAL("SessionRemoved", "sos", 0),
    SD_BUS_VTABLE_END,
};

const sd_bus_vtable FakePager::Vtables::session[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY(
        "ErrorName", "s", get_text<&FakeSession::error_name>, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "ErrorMessage", "s", get_text<&FakeSession::error_message>, 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY("Unit", "s", get_text<&FakeSession::unit>, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("Faults", "t", get_faults, 0, 0),
    SD_BUS_PROPERTY("MemorySize", "t", get_memory_size, 0, 0),
    SD_BUS_METHOD("TakeRecording", "t", "h", take_recording, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Quiesce", "t", "", change, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Resume", "t", "", change, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Complete", "t", "", change, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("StopPending", "b", get_stop_pending, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_VTABLE_END,
};

FakePager::FakePager(Bus bus, std::function<void(const std::string&)> note)
    : bus_(std::move(bus)), note_(std::move(note)) {
    register_bus_errors(pager1::kErrors);
    slots_.push_back(
        must(bus_.add_object(pager1::kPath, pager1::kManagerInterface, Vtables::manager, this))
    );
    slots_.push_back(must(bus_.add_objects(
        pager1::kSessionPrefix, pager1::kSessionInterface, Vtables::session,
        [this](const std::string& path) -> void* {
            const auto name = decode_object_path(pager1::kSessionPrefix, path);
            return name ? session(*name) : nullptr;
        }
    )));
    slots_.push_back(bus_.request_name(pager1::kBusName, [this](const Result<>& done) {
        owns_name_ = done.has_value();
    }));
}

FakeSession* FakePager::session(const std::string& name) {
    const auto found = sessions_.find(name);
    return found == sessions_.end() ? nullptr : &found->second;
}

std::string FakePager::path_of(const std::string& name) {
    return encode_object_path(pager1::kSessionPrefix, name);
}

void FakePager::set_state(
    const std::string& name, const std::string& state, const std::string& error_name,
    const std::string& error_message
) {
    auto& target = sessions_.at(name);
    target.state = state;
    target.error_name = error_name;
    target.error_message = error_message;
    (void)bus_.emit_properties_changed(
        path_of(name), pager1::kSessionInterface, {"State", "ErrorName", "ErrorMessage"}
    );
}

void FakePager::set_stop_pending(const std::string& name) {
    sessions_.at(name).stop_pending = true;
    (void)bus_.emit_properties_changed(path_of(name), pager1::kSessionInterface, {"StopPending"});
}

void FakePager::drop(const std::string& name, const std::string& result) {
    sessions_.erase(name);
    (void)bus_.emit_signal(
        pager1::kPath, pager1::kManagerInterface, "SessionRemoved", "sos", name.c_str(),
        path_of(name).c_str(), result.c_str()
    );
}

Result<> FakePager::read_options(BusMessage& message, FakeSession& session) {
    THAW_CHECK(message.enter_container('a', "{sh}"));
    while (true) {
        THAW_TRY(const bool more, message.enter_container('e', "sh"));
        if (!more) break;
        const char* role = nullptr;
        int fd = -1;
        THAW_CHECK(message.read("sh", &role, &fd));
        session.has_memory |= std::strcmp(role, "memory") == 0;
        session.has_map |= std::strcmp(role, "map") == 0;
        session.has_working_set |= std::strcmp(role, "working-set") == 0;
        THAW_CHECK(message.exit_container());
    }
    THAW_CHECK(message.exit_container());
    THAW_CHECK(message.enter_container('a', "{sv}"));
    while (true) {
        THAW_TRY(const bool more, message.enter_container('e', "sv"));
        if (!more) break;
        const char* key = nullptr;
        const char* text = nullptr;
        int flag = 0;
        THAW_CHECK(message.read("s", &key));
        const std::string_view option = key;
        if (option == "MemorySize") {
            THAW_CHECK(message.read("v", "t", &session.memory_size));
        } else if (option == "PageSize") {
            THAW_CHECK(message.read("v", "t", &session.page_size));
        } else if (option == "Prefetch") {
            THAW_CHECK(message.read("v", "b", &flag));
            session.prefetch = flag != 0;
        } else if (option == "Recording") {
            THAW_CHECK(message.read("v", "b", &flag));
            session.recording = flag != 0;
        } else if (option == "PrefetchRate") {
            THAW_CHECK(message.read("v", "t", &session.prefetch_rate));
        } else if (option == "ImageId") {
            THAW_CHECK(message.read("v", "s", &text));
            session.image_id = text;
        } else if (option == "OnPagerLoss") {
            THAW_CHECK(message.read("v", "s", &text));
            session.on_pager_loss = text;
        } else if (option == "ImageName") {
            THAW_CHECK(message.read("v", "s", &text));
            session.image_name = text;
        } else {
            THAW_CHECK(message.skip("v"));
        }
        THAW_CHECK(message.exit_container());
    }
    return message.exit_container();
}

Result<> FakePager::method_create(BusMessage message) {
    const char *name = nullptr, *unit = nullptr;
    THAW_CHECK(message.read("ss", &name, &unit));
    note_(fmt::format("CreateSession {}", name));
    if (on_create) on_create();
    if (create_silent) {
        unanswered_.push_back(std::move(message));
        return {};
    }
    for (const auto& row : pager1::kErrors)
        if (row.name == create_error) return fail_named(row.name, row.errno_value, "scripted");
    if (sessions_.contains(name))
        return fail_named(pager1::error::kSessionExists, EEXIST, "session {} exists", name);
    FakeSession session{.name = name, .unit = unit};
    THAW_CHECK(read_options(message, session));
    if (on_session) on_session(session);
    sessions_[name] = session;
    if (lost_replies > 0) {
        --lost_replies;
        return fail_named("org.freedesktop.DBus.Error.NoReply", ETIMEDOUT, "lost");
    }
    const auto socket = fmt::format("/run/thaw/pager/vm/{}/uffd.sock", name);
    return message.reply("os", path_of(name).c_str(), socket.c_str());
}

Result<> FakePager::method_close(BusMessage message) {
    const char* name = nullptr;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("st", &name, &flags));
    note_(fmt::format("CloseSession {}", name));
    if (!sessions_.contains(name))
        return fail_named(pager1::error::kNoSuchSession, ENXIO, "no session {}", name);
    drop(name, "closed");
    return message.reply_empty();
}

Result<> FakePager::method_list(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(ssssto)"));
    for (const auto& [name, session] : sessions_)
        THAW_CHECK(reply.append(
            "(ssssto)", name.c_str(), "0", session.unit.c_str(), session.state.c_str(),
            session.memory_size, path_of(name).c_str()
        ));
    THAW_CHECK(reply.close_container());
    return reply.send();
}

} // namespace thaw::testing
