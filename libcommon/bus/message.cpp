// SPDX-License-Identifier: MIT
#include "bus/message.hpp"

#include "bus/errors.hpp"
#include "log/log.hpp"

namespace thaw {

Result<> BusMessage::checked(int r, const char* what) {
    if (r < 0) return fail_errno(-r, "{}", what);
    return {};
}

Result<> BusMessage::open_container(char type, const char* contents) {
    return checked(sd_bus_message_open_container(message_, type, contents), "open container");
}

Result<> BusMessage::close_container() {
    return checked(sd_bus_message_close_container(message_), "close container");
}

Result<bool> BusMessage::enter_container(char type, const char* contents) {
    const int r = sd_bus_message_enter_container(message_, type, contents);
    if (r < 0) return fail_errno(-r, "enter container");
    return r > 0;
}

Result<> BusMessage::exit_container() {
    return checked(sd_bus_message_exit_container(message_), "exit container");
}

Result<> BusMessage::skip(const char* types) {
    return checked(sd_bus_message_skip(message_, types), "skip in message");
}

Result<std::string> BusMessage::peek_variant() {
    char type = 0;
    const char* contents = nullptr;
    const int r = sd_bus_message_peek_type(message_, &type, &contents);
    if (r < 0) return fail_errno(-r, "peek into message");
    if (r == 0 || type != SD_BUS_TYPE_VARIANT) return fail(EBADMSG, "expected a variant");
    return std::string(contents);
}

Result<BusMessage> BusMessage::new_reply() const {
    sd_bus_message* reply = nullptr;
    const int r = sd_bus_message_new_method_return(message_, &reply);
    if (r < 0) return fail_errno(-r, "make reply");
    return adopt(reply);
}

Result<> BusMessage::send() {
    return checked(
        sd_bus_send(sd_bus_message_get_bus(message_), message_, nullptr), "send message"
    );
}

void BusMessage::reply_error(const Error& error) const {
    sd_bus_error reply = SD_BUS_ERROR_NULL;
    set_bus_error(&reply, error);
    const int r = sd_bus_reply_method_error(message_, &reply);
    sd_bus_error_free(&reply);
    if (r < 0)
        log_warning(
            "Cannot answer {} with an error, ignoring: {}", sd_bus_message_get_member(message_),
            errno_text(-r)
        );
}

std::string BusMessage::sender() const {
    const char* name = sd_bus_message_get_sender(message_);
    return name != nullptr ? name : "";
}

Result<uid_t> BusMessage::sender_uid() const {
    sd_bus_creds* creds = nullptr;
    // Never with AUGMENT: that would read /proc of a pid which may be somebody else's by now.
    int r = sd_bus_query_sender_creds(message_, SD_BUS_CREDS_EUID, &creds);
    if (r < 0) return fail_errno(EACCES, "ask for the sender's uid ({})", errno_text(-r));
    uid_t uid = 0;
    r = sd_bus_creds_get_euid(creds, &uid);
    sd_bus_creds_unref(creds);
    if (r < 0) return fail_errno(EACCES, "read the sender's uid ({})", errno_text(-r));
    return uid;
}

} // namespace thaw
