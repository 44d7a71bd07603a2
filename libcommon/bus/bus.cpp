// SPDX-License-Identifier: MIT
#include "bus/bus.hpp"

#include "bus/errors.hpp"
#include "event/priorities.hpp"

#include <poll.h>

#include <cstdlib>
#include <cstring>
#include <optional>

namespace thaw {

namespace {

constexpr const char* kDriver = "org.freedesktop.DBus";
constexpr const char* kDriverPath = "/org/freedesktop/DBus";
constexpr Microseconds kFlushLimit = kUsecPerSec;

// The connection whose last messages are being sent by Bus::close(); its callbacks stay silent.
thread_local sd_bus* closing_bus = nullptr;

bool is_closing(sd_bus_message* message) {
    return closing_bus != nullptr && sd_bus_message_get_bus(message) == closing_bus;
}

const char* or_null(const std::string& text) {
    return text.empty() ? nullptr : text.c_str();
}

// sd-bus compares unique senders with the rule's well-known name benevolently, because it cannot
// know who owns a name. For the driver it can: its name is never anybody else's.
bool may_come_from(sd_bus_message* message, bool driver_only) {
    if (!driver_only) return true;
    const char* sender = sd_bus_message_get_sender(message);
    return sender != nullptr && std::strcmp(sender, kDriver) == 0;
}

} // namespace

// Shared between the handle and a running callback, so that a callback may drop its own handle.
struct BusSlot::State : std::enable_shared_from_this<State> {
    sd_bus_slot* slot = nullptr;
    sd_event_source* deferred = nullptr;
    Error failure{0, {}};
    bool driver_only = false;
    Bus::ReplyHandler on_reply;
    Bus::SignalHandler on_signal;
    Bus::FindObject find;
    Bus::ListObjects list;
    std::vector<BusSlot> parts;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { drop(); }

    // Ends delivery. The callbacks stay until the last reference goes: one may be running.
    void drop() noexcept {
        slot = sd_bus_slot_unref(slot);
        deferred = sd_event_source_disable_unref(deferred);
        parts.clear();
    }

    // noexcept: an exception ends the process here, with its text, instead of unwinding through C.
    // NOLINTBEGIN(bugprone-exception-escape)
    static int reply_trampoline(sd_bus_message* message, void* userdata, sd_bus_error*) noexcept {
        if (is_closing(message)) return 1;
        auto self = static_cast<State*>(userdata)->shared_from_this();
        const sd_bus_error* error = sd_bus_message_get_error(message);
        if (error != nullptr)
            self->on_reply(std::unexpected(error_from_bus(*error)));
        else
            self->on_reply(BusMessage::share(message));
        return 1;
    }

    static int deferred_trampoline(sd_event_source*, void* userdata) noexcept {
        auto self = static_cast<State*>(userdata)->shared_from_this();
        self->on_reply(std::unexpected(std::move(self->failure)));
        return 0;
    }

    static int signal_trampoline(sd_bus_message* message, void* userdata, sd_bus_error*) noexcept {
        auto self = static_cast<State*>(userdata)->shared_from_this();
        if (is_closing(message) || !may_come_from(message, self->driver_only)) return 0;
        auto shared = BusMessage::share(message);
        self->on_signal(shared);
        return 0;
    }

    static int
    find_trampoline(sd_bus*, const char* path, const char*, void* userdata, void** found, sd_bus_error*) noexcept {
        auto self = static_cast<State*>(userdata)->shared_from_this();
        *found = self->find(path);
        return *found != nullptr ? 1 : 0;
    }

    static int
    list_trampoline(sd_bus*, const char*, void* userdata, char*** nodes, sd_bus_error*) noexcept {
        auto self = static_cast<State*>(userdata)->shared_from_this();
        const auto paths = self->list();
        auto** array = static_cast<char**>(calloc(paths.size() + 1, sizeof(char*)));
        if (array == nullptr) return -ENOMEM;
        for (std::size_t i = 0; i < paths.size(); ++i) {
            array[i] = strdup(paths[i].c_str());
            if (array[i] != nullptr) continue;
            while (i > 0)
                free(array[--i]);
            free(static_cast<void*>(array));
            return -ENOMEM;
        }
        *nodes = array;
        return 0;
    }
    // NOLINTEND(bugprone-exception-escape)
};

BusSlot::BusSlot() noexcept = default;
BusSlot::BusSlot(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
BusSlot::BusSlot(BusSlot&&) noexcept = default;

BusSlot& BusSlot::operator=(BusSlot&& other) noexcept {
    if (this != &other) {
        reset();
        state_ = std::move(other.state_);
    }
    return *this;
}

BusSlot::~BusSlot() {
    reset();
}

void BusSlot::reset() noexcept {
    // Moved out first: what the callback holds may own this very handle.
    if (auto state = std::move(state_)) state->drop();
}

Result<Bus> Bus::open_system() {
    sd_bus* bus = nullptr;
    const int r = sd_bus_open_system(&bus);
    if (r < 0) return fail_errno(-r, "connect to the system bus");
    return Bus(bus);
}

Bus& Bus::operator=(Bus&& other) noexcept {
    if (this != &other) {
        close(std::exchange(bus_, std::exchange(other.bus_, nullptr)));
        event_ = std::exchange(other.event_, nullptr);
    }
    return *this;
}

Bus::~Bus() {
    close(bus_);
}

void Bus::close(sd_bus* bus) noexcept {
    if (bus == nullptr) return;
    closing_bus = bus;
    // sd_bus_flush() would wait for a peer that reads no more. sd_bus_process() also reads; the
    // filter swallows calls and signals, the trampolines swallow replies.
    sd_bus_add_filter(
        bus, nullptr, [](sd_bus_message*, void*, sd_bus_error*) { return 1; }, nullptr
    );
    const auto deadline = now_monotonic() + kFlushLimit;
    std::uint64_t queued = 0;
    while (sd_bus_is_open(bus) > 0 && sd_bus_get_n_queued_write(bus, &queued) >= 0 && queued > 0) {
        const int r = sd_bus_process(bus, nullptr);
        if (r < 0) break;
        if (r > 0) continue;
        const auto now = now_monotonic();
        const int events = sd_bus_get_events(bus);
        if (now >= deadline || events < 0) break;
        pollfd wait{.fd = sd_bus_get_fd(bus), .events = static_cast<short>(events), .revents = 0};
        poll(&wait, 1, static_cast<int>((deadline - now) / kUsecPerMsec + 1));
    }
    sd_bus_close_unref(bus);
    closing_bus = nullptr;
}

Result<> Bus::from_errno(int r, const char* what) {
    if (r < 0) return fail_errno(-r, "{}", what);
    return {};
}

Result<> Bus::attach(EventLoop& loop) {
    event_ = loop.get();
    return from_errno(
        sd_bus_attach_event(bus_, loop.get(), static_cast<int>(priority::kBus)), "attach bus"
    );
}

Result<BusMessage> Bus::new_call(
    const std::string& destination, const std::string& path, const std::string& interface,
    const std::string& member
) const {
    sd_bus_message* message = nullptr;
    const int r = sd_bus_message_new_method_call(
        bus_, &message, or_null(destination), path.c_str(), or_null(interface), member.c_str()
    );
    if (r < 0) return fail_errno(-r, "make call of {}", member);
    return BusMessage::adopt(message);
}

BusSlot Bus::call(Result<BusMessage> message, ReplyHandler handler, Microseconds timeout) {
    auto state = std::make_shared<BusSlot::State>();
    state->on_reply = std::move(handler);
    if (message) {
        const int r = sd_bus_call_async(
            bus_, &state->slot, message->get(), BusSlot::State::reply_trampoline, state.get(),
            timeout
        );
        if (r >= 0) return BusSlot(std::move(state));
        message = fail_errno(-r, "send call");
    }
    state->failure = std::move(message).error();
    const int r = sd_event_add_defer(
        event_, &state->deferred, BusSlot::State::deferred_trampoline, state.get()
    );
    THAW_INVARIANT(r >= 0);
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::match_signal(
    const std::string& sender, const std::string& path, const std::string& interface,
    const std::string& member, SignalHandler handler
) {
    auto state = std::make_shared<BusSlot::State>();
    state->on_signal = std::move(handler);
    state->driver_only = sender == kDriver;
    THAW_CHECK(from_errno(
        sd_bus_match_signal_async(
            bus_, &state->slot, or_null(sender), or_null(path), or_null(interface), or_null(member),
            BusSlot::State::signal_trampoline, nullptr, state.get()
        ),
        "match signal"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::match_rule(const std::string& rule, SignalHandler handler) {
    auto state = std::make_shared<BusSlot::State>();
    state->on_signal = std::move(handler);
    state->driver_only = rule.find("sender='org.freedesktop.DBus'") != std::string::npos;
    THAW_CHECK(from_errno(
        sd_bus_add_match_async(
            bus_, &state->slot, rule.c_str(), BusSlot::State::signal_trampoline, nullptr,
            state.get()
        ),
        "add match"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::watch_name(const std::string& name, std::function<void(bool owned)> handler) {
    return watch_name_owner(
        name,
        [told = std::optional<bool>(),
         handler = std::move(handler)](const std::string& owner) mutable {
            const bool owned = !owner.empty();
            // A name handed over from one owner to the next stays owned.
            if (std::exchange(told, owned) != owned) handler(owned);
        }
    );
}

Result<BusSlot> Bus::watch_name_owner(
    const std::string& name, std::function<void(const std::string& owner)> handler
) {
    struct Watch {
        std::optional<std::string> last;
        std::function<void(const std::string&)> handler;
        void update(const std::string& owner) {
            if (last == owner) return;
            last = owner;
            handler(owner);
        }
    };
    auto watch = std::make_shared<Watch>();
    watch->handler = std::move(handler);
    auto state = std::make_shared<BusSlot::State>();

    // Match first, then ask: a change in between shows in both, never in neither.
    THAW_TRY(
        auto match,
        match_rule(
            fmt::format(
                "type='signal',sender='{}',path='{}',interface='{}',member='NameOwnerChanged',"
                "arg0='{}'",
                kDriver, kDriverPath, kDriver, name
            ),
            [watch](BusMessage& message) {
                const char *changed = nullptr, *before = nullptr, *after = nullptr;
                if (message.read("sss", &changed, &before, &after)) watch->update(after);
            }
        )
    );
    state->parts.push_back(std::move(match));

    auto question = new_call(kDriver, kDriverPath, kDriver, "GetNameOwner");
    if (question) THAW_CHECK(question->append("s", name.c_str()));
    state->parts.push_back(call(std::move(question), [watch](Result<BusMessage> reply) {
        const char* owner = nullptr;
        watch->update(reply && reply->read("s", &owner) ? owner : "");
    }));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::add_object(
    const std::string& path, const std::string& interface, const sd_bus_vtable* vtable,
    void* userdata
) {
    auto state = std::make_shared<BusSlot::State>();
    THAW_CHECK(from_errno(
        sd_bus_add_object_vtable(
            bus_, &state->slot, path.c_str(), interface.c_str(), vtable, userdata
        ),
        "add object"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::add_objects(
    const std::string& prefix, const std::string& interface, const sd_bus_vtable* vtable,
    FindObject find
) {
    auto state = std::make_shared<BusSlot::State>();
    state->find = std::move(find);
    THAW_CHECK(from_errno(
        sd_bus_add_fallback_vtable(
            bus_, &state->slot, prefix.c_str(), interface.c_str(), vtable,
            BusSlot::State::find_trampoline, state.get()
        ),
        "add objects"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::add_enumerator(const std::string& prefix, ListObjects list) {
    auto state = std::make_shared<BusSlot::State>();
    state->list = std::move(list);
    THAW_CHECK(from_errno(
        sd_bus_add_node_enumerator(
            bus_, &state->slot, prefix.c_str(), BusSlot::State::list_trampoline, state.get()
        ),
        "add enumerator"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::add_object_manager(const std::string& path) {
    auto state = std::make_shared<BusSlot::State>();
    THAW_CHECK(
        from_errno(sd_bus_add_object_manager(bus_, &state->slot, path.c_str()), "add manager")
    );
    return BusSlot(std::move(state));
}

Result<> Bus::emit_properties_changed(
    const std::string& path, const std::string& interface, std::vector<std::string> properties
) {
    std::vector<char*> names;
    names.reserve(properties.size() + 1);
    for (auto& property : properties)
        names.push_back(property.data());
    names.push_back(nullptr);
    return from_errno(
        sd_bus_emit_properties_changed_strv(bus_, path.c_str(), interface.c_str(), names.data()),
        "emit PropertiesChanged"
    );
}

Result<> Bus::emit_object_added(const std::string& path) {
    return from_errno(sd_bus_emit_object_added(bus_, path.c_str()), "emit InterfacesAdded");
}

Result<> Bus::emit_object_removed(const std::string& path) {
    return from_errno(sd_bus_emit_object_removed(bus_, path.c_str()), "emit InterfacesRemoved");
}

BusSlot Bus::request_name(const std::string& name, std::function<void(Result<>)> handler) {
    constexpr std::uint32_t kDoNotQueue = 4, kPrimaryOwner = 1, kAlreadyOwner = 4;
    auto question = new_call(kDriver, kDriverPath, kDriver, "RequestName");
    if (question)
        if (auto filled = question->append("su", name.c_str(), kDoNotQueue); !filled)
            question = std::unexpected(std::move(filled).error());
    return call(
        std::move(question),
        [name, handler = std::move(handler)](Result<BusMessage> reply) {
            if (!reply) {
                handler(std::unexpected(
                    std::move(reply).error().with_context(fmt::format("own bus name {}", name))
                ));
                return;
            }
            std::uint32_t answer = 0;
            auto done = reply->read("u", &answer);
            if (done && answer != kPrimaryOwner && answer != kAlreadyOwner)
                done = fail(EEXIST, "bus name {} belongs to somebody else", name);
            handler(std::move(done));
        }
    );
}

std::string encode_object_path(const std::string& prefix, std::string_view name) {
    char* path = nullptr;
    const int r = sd_bus_path_encode(prefix.c_str(), std::string(name).c_str(), &path);
    THAW_INVARIANT(r >= 0);
    std::string result = path;
    free(path);
    return result;
}

Result<std::string> decode_object_path(const std::string& prefix, const std::string& path) {
    // sd-bus takes the prefix itself and deeper paths too.
    if (path.size() <= prefix.size() || path.find('/', prefix.size() + 1) != std::string::npos)
        return fail(EINVAL, "{} is no child of {}", path, prefix);
    char* name = nullptr;
    const int r = sd_bus_path_decode(path.c_str(), prefix.c_str(), &name);
    if (r < 0) return fail_errno(-r, "decode object path {}", path);
    if (r == 0) return fail(EINVAL, "{} is no child of {}", path, prefix);
    std::string result = name;
    free(name);
    return result;
}

} // namespace thaw
