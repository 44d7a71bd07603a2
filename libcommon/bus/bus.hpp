// SPDX-License-Identifier: MIT
#pragma once

// RAII over one bus connection attached to the event loop. Nothing here blocks: calls are
// asynchronous, names are requested asynchronously. Handles (BusSlot) cancel what they stand for
// when they are destroyed, so a callback never outlives its owner.

#include "bus/message.hpp"
#include "event/event.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thaw {

// Owns a pending call, a match or an exported object together with its callback.
class BusSlot {
public:
    BusSlot() noexcept;
    BusSlot(BusSlot&&) noexcept;
    BusSlot& operator=(BusSlot&&) noexcept;
    BusSlot(const BusSlot&) = delete;
    BusSlot& operator=(const BusSlot&) = delete;
    ~BusSlot();
    explicit operator bool() const noexcept { return state_ != nullptr; }
    void reset() noexcept;

private:
    friend class Bus;
    struct State;
    explicit BusSlot(std::shared_ptr<State> state) noexcept;
    std::shared_ptr<State> state_;
};

class Bus {
public:
    // The system bus ($DBUS_SYSTEM_BUS_ADDRESS honoured). ENOENT/ECONNREFUSED when there is none.
    static Result<Bus> open_system();
    // Takes over a reference, e.g. one end of a socketpair in tests.
    static Bus adopt(sd_bus* bus) noexcept { return Bus(bus); }
    Bus(Bus&& other) noexcept
        : bus_(std::exchange(other.bus_, nullptr)), event_(std::exchange(other.event_, nullptr)) {}
    Bus& operator=(Bus&& other) noexcept;
    Bus(const Bus&) = delete;
    Bus& operator=(const Bus&) = delete;
    // Sends what is queued (for at most a second), closes. No callback runs meanwhile.
    ~Bus();

    sd_bus* get() const noexcept { return bus_; }
    Result<> attach(EventLoop& loop);

    Result<BusMessage> new_call(
        const std::string& destination, const std::string& path, const std::string& interface,
        const std::string& member
    ) const;

    // The reply, or its error as Error (bus_name of a foreign error is kept in the message).
    using ReplyHandler = std::function<void(Result<BusMessage>)>;
    // timeout 0 = the bus default (25 s), kInfinity = none. Dropping the slot cancels the call. A
    // message that could not be built and a failure to send are delivered through `handler` as
    // well, from the event loop, never from inside call(). The bus must be attached.
    [[nodiscard]] BusSlot
    call(Result<BusMessage> message, ReplyHandler handler, Microseconds timeout = 0);

    // Empty strings match anything. The match is installed asynchronously. Signals of the bus
    // driver are genuine; any other one can be sent to us alone by anybody, under any path and
    // interface: take it as a hint to read the state again, or compare BusMessage::sender().
    using SignalHandler = std::function<void(BusMessage&)>;
    Result<BusSlot> match_signal(
        const std::string& sender, const std::string& path, const std::string& interface,
        const std::string& member, SignalHandler handler
    );
    // The same with a rule as in the D-Bus specification, e.g. with path_namespace= or arg0=.
    Result<BusSlot> match_rule(const std::string& rule, SignalHandler handler);
    // Follows who owns a bus name; called with true/false on each change and once at the start.
    Result<BusSlot> watch_name(const std::string& name, std::function<void(bool owned)> handler);
    // The same with the owner's unique name, empty for none.
    Result<BusSlot> watch_name_owner(
        const std::string& name, std::function<void(const std::string& owner)> handler
    );

    // vtable and userdata must outlive the slot. See bus/vtable.hpp for handlers in C++.
    Result<BusSlot> add_object(
        const std::string& path, const std::string& interface, const sd_bus_vtable* vtable,
        void* userdata
    );
    // One vtable for all objects below `prefix`: find() answers the object of a path or nullptr,
    // list() names all paths that exist.
    using FindObject = std::function<void*(const std::string& path)>;
    using ListObjects = std::function<std::vector<std::string>()>;
    Result<BusSlot> add_objects(
        const std::string& prefix, const std::string& interface, const sd_bus_vtable* vtable,
        FindObject find
    );
    Result<BusSlot> add_enumerator(const std::string& prefix, ListObjects list);
    Result<BusSlot> add_object_manager(const std::string& path);

    // Signals: failures are the caller's to ignore explicitly.
    template <class... Args>
    Result<> emit_signal(
        const std::string& path, const std::string& interface, const std::string& member,
        const char* types, Args... args
    ) {
        return from_errno(
            sd_bus_emit_signal(
                bus_, path.c_str(), interface.c_str(), member.c_str(), types, args...
            ),
            "emit signal"
        );
    }
    Result<> emit_properties_changed(
        const std::string& path, const std::string& interface, std::vector<std::string> properties
    );
    Result<> emit_object_added(const std::string& path);
    Result<> emit_object_removed(const std::string& path);

    // Asks for a well-known name; the handler hears whether we own it.
    [[nodiscard]] BusSlot
    request_name(const std::string& name, std::function<void(Result<>)> handler);

private:
    explicit Bus(sd_bus* bus) noexcept : bus_(bus) {}
    static Result<> from_errno(int r, const char* what);
    static void close(sd_bus* bus) noexcept;
    sd_bus* bus_ = nullptr;
    // The loop's, kept because a connection that breaks leaves the loop.
    sd_event* event_ = nullptr;
};

// Object path of an item: prefix + "/" + sd_bus_path_encode'd name; and back (EINVAL for any
// path but a child of prefix).
std::string encode_object_path(const std::string& prefix, std::string_view name);
Result<std::string> decode_object_path(const std::string& prefix, const std::string& path);

} // namespace thaw
