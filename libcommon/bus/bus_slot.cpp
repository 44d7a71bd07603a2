// SPDX-License-Identifier: MIT
#include "bus/bus_slot_state.hpp"
#include "bus/errors.hpp"

#include <cstdlib>
#include <cstring>

namespace thaw {

namespace {

thread_local sd_bus* closing_bus = nullptr;

bool is_closing(sd_bus_message* message) {
    return closing_bus != nullptr && sd_bus_message_get_bus(message) == closing_bus;
}

// sd-bus compares unique senders with the rule's well-known name benevolently, because it cannot
// know who owns a name. For the driver it can: its name is never anybody else's.
bool may_come_from(sd_bus_message* message, bool driver_only) {
    if (!driver_only) return true;
    const char* sender = sd_bus_message_get_sender(message);
    return sender != nullptr && std::strcmp(sender, kDriver) == 0;
}

} // namespace

ClosingBus::ClosingBus(sd_bus* bus) noexcept {
    closing_bus = bus;
}

ClosingBus::~ClosingBus() {
    closing_bus = nullptr;
}

void BusSlot::State::drop() noexcept {
    slot = sd_bus_slot_unref(slot);
    deferred = sd_event_source_disable_unref(deferred);
    parts.clear();
}

// NOLINTBEGIN(bugprone-exception-escape)
int BusSlot::State::
    on_reply_message(sd_bus_message* message, void* userdata, sd_bus_error*) noexcept {
    if (is_closing(message)) return 1;
    auto self = static_cast<State*>(userdata)->shared_from_this();
    const sd_bus_error* error = sd_bus_message_get_error(message);
    if (error != nullptr)
        self->on_reply(std::unexpected(error_from_bus(*error)));
    else
        self->on_reply(BusMessage::share(message));
    return 1;
}

int BusSlot::State::on_deferred(sd_event_source*, void* userdata) noexcept {
    auto self = static_cast<State*>(userdata)->shared_from_this();
    self->on_reply(std::unexpected(std::move(self->failure)));
    return 0;
}

int BusSlot::State::
    on_signal_message(sd_bus_message* message, void* userdata, sd_bus_error*) noexcept {
    auto self = static_cast<State*>(userdata)->shared_from_this();
    if (is_closing(message) || !may_come_from(message, self->driver_only)) return 0;
    auto shared = BusMessage::share(message);
    self->on_signal(shared);
    return 0;
}

int BusSlot::State::
    find_object(sd_bus*, const char* path, const char*, void* userdata, void** found, sd_bus_error*) noexcept {
    auto self = static_cast<State*>(userdata)->shared_from_this();
    *found = self->find(path);
    return *found != nullptr ? 1 : 0;
}

int BusSlot::State::
    list_objects(sd_bus*, const char*, void* userdata, char*** nodes, sd_bus_error*) noexcept {
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

} // namespace thaw
