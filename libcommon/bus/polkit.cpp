// SPDX-License-Identifier: MIT
#include "bus/polkit.hpp"

#include "bus/errors.hpp"

namespace thaw {

namespace {

constexpr const char* kPolkit = "org.freedesktop.PolicyKit1";
constexpr const char* kPolkitPath = "/org/freedesktop/PolicyKit1/Authority";
constexpr const char* kPolkitInterface = "org.freedesktop.PolicyKit1.Authority";
constexpr std::uint32_t kAllowUserInteraction = 1; // CheckAuthorizationFlags

Result<BusMessage> make_question(
    const Bus& bus, const BusMessage& call, const std::string& action,
    const Polkit::Details& details
) {
    const bool interactive = sd_bus_message_get_allow_interactive_authorization(call.get()) > 0;
    THAW_TRY(
        auto question, bus.new_call(kPolkit, kPolkitPath, kPolkitInterface, "CheckAuthorization")
    );
    // Subject by bus name: the caller's pid could be another process's by the time polkit looks.
    THAW_CHECK(question.append(
        "(sa{sv})s", "system-bus-name", 1U, "name", "s", call.sender().c_str(), action.c_str()
    ));
    THAW_CHECK(question.open_container('a', "{ss}"));
    for (const auto& [key, value] : details)
        THAW_CHECK(question.append("{ss}", key.c_str(), value.c_str()));
    THAW_CHECK(question.close_container());
    THAW_CHECK(question.append("us", interactive ? kAllowUserInteraction : 0U, ""));
    return question;
}

Result<> read_answer(Result<BusMessage> reply, const std::string& action) {
    if (!reply)
        return fail_named(
            kErrorAccessDenied, EACCES, "{} is not allowed: polkit did not decide ({})", action,
            reply.error().message()
        );
    int authorized = 0;
    int challenge = 0;
    THAW_CHECK(reply->enter_container('r', "bba{ss}"));
    THAW_CHECK(reply->read("bb", &authorized, &challenge));
    if (authorized != 0) return {};
    if (challenge != 0)
        return fail_named(
            kErrorInteractiveAuthorizationRequired, EACCES, "{} needs authentication", action
        );
    return fail_named(kErrorAccessDenied, EACCES, "{} is not allowed", action);
}

} // namespace

Polkit::~Polkit() = default;

void Polkit::authorize(
    const BusMessage& call, const std::string& action, const Details& details,
    std::function<void(Result<>)> then
) {
    auto uid = call.sender_uid();
    if (uid && *uid == 0) {
        then({});
        return;
    }
    if (!uid || call.sender().empty()) {
        then(fail_named(kErrorAccessDenied, EACCES, "{} is not allowed: unknown caller", action));
        return;
    }
    const auto id = next_++;
    auto answered = [this, id, action, then = std::move(then)](Result<BusMessage> reply) {
        pending_.erase(id);
        then(read_answer(std::move(reply), action));
    };
    // No limit: an agent may be waiting for somebody to type a password. polkit gives up by itself
    // when the caller leaves the bus.
    pending_[id] =
        bus_.call(make_question(bus_, call, action, details), std::move(answered), kInfinity);
}

} // namespace thaw
