// SPDX-License-Identifier: MIT
#include "bus/bus.hpp"

#include "bus/bus_slot_state.hpp"
#include "bus/errors.hpp"
#include "event/priorities.hpp"

#include <poll.h>

namespace thaw {

namespace {

constexpr Microseconds kFlushLimit = kUsecPerSec;

} // namespace

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
    const ClosingBus silent(bus);
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
            bus_, &state->slot, message->get(), BusSlot::State::on_reply_message, state.get(),
            timeout
        );
        if (r >= 0) return BusSlot(std::move(state));
        message = fail_errno(-r, "send call");
    }
    state->failure = std::move(message).error();
    const int r =
        sd_event_add_defer(event_, &state->deferred, BusSlot::State::on_deferred, state.get());
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
            BusSlot::State::on_signal_message, nullptr, state.get()
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
            bus_, &state->slot, rule.c_str(), BusSlot::State::on_signal_message, nullptr,
            state.get()
        ),
        "add match"
    ));
    return BusSlot(std::move(state));
}

} // namespace thaw
