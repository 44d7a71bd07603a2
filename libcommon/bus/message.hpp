// SPDX-License-Identifier: MIT
#pragma once

// A counted reference to one sd_bus_message, with calls that return Result.

#include "core/error.hpp"

#include <systemd/sd-bus.h>

#include <string>
#include <utility>

namespace thaw {

class BusMessage {
public:
    BusMessage() noexcept = default;
    // Takes over the caller's reference.
    static BusMessage adopt(sd_bus_message* message) noexcept { return BusMessage(message); }
    // Adds a reference.
    static BusMessage share(sd_bus_message* message) noexcept {
        return BusMessage(sd_bus_message_ref(message));
    }
    BusMessage(const BusMessage& other) noexcept : message_(sd_bus_message_ref(other.message_)) {}
    BusMessage(BusMessage&& other) noexcept : message_(std::exchange(other.message_, nullptr)) {}
    BusMessage& operator=(BusMessage other) noexcept {
        std::swap(message_, other.message_);
        return *this;
    }
    ~BusMessage() { sd_bus_message_unref(message_); }

    sd_bus_message* get() const noexcept { return message_; }
    explicit operator bool() const noexcept { return message_ != nullptr; }

    // sd_bus_message_append() / _read() with their type strings. Strings that are read belong to
    // the message; "h" that is read too (duplicate it to keep it). EBADMSG/ENXIO on a type
    // mismatch.
    template <class... Args>
    Result<> append(const char* types, Args... args) {
        return checked(sd_bus_message_append(message_, types, args...), "append to message");
    }
    template <class... Args>
    Result<> read(const char* types, Args*... args) {
        return checked(sd_bus_message_read(message_, types, args...), "read message");
    }
    Result<> open_container(char type, const char* contents);
    Result<> close_container();
    // false: the end of the enclosing array was reached.
    Result<bool> enter_container(char type, const char* contents);
    Result<> exit_container();
    Result<> skip(const char* types);
    // Type string of what a variant at the cursor holds, e.g. "s".
    Result<std::string> peek_variant();

    // Empty reply to this method call.
    Result<> reply_empty() { return reply(""); }
    template <class... Args>
    Result<> reply(const char* types, Args... args) {
        return checked(sd_bus_reply_method_return(message_, types, args...), "reply");
    }
    // Sends a reply built with new_reply().
    Result<BusMessage> new_reply() const;
    Result<> send();
    // Answers this method call with the error (name by bus/errors.hpp). Failures to send are
    // logged.
    void reply_error(const Error& error) const;

    std::string sender() const;
    // uid of the sender as the bus proved it. EACCES when unknown. One round trip to the bus
    // driver, never to the sender.
    Result<uid_t> sender_uid() const;

private:
    explicit BusMessage(sd_bus_message* message) noexcept : message_(message) {}
    static Result<> checked(int r, const char* what);
    sd_bus_message* message_ = nullptr;
};

} // namespace thaw
