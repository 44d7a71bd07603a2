// SPDX-License-Identifier: MIT
#include "hooks.hpp"

#include "log/log.hpp"
#include "systemd/unit_reader.hpp"

#include <utility>
#include <vector>

namespace thaw::diskguard {

namespace {

constexpr const char* kRow = "ssssssouso";

bool is_up(std::string_view active) {
    return active == "active" || active == "activating";
}

} // namespace

void Hooks::start() {
    auto question = bus_.new_call(
        systemd1::kBusName, systemd1::kPath, systemd1::kManagerInterface, "ListUnitsByPatterns"
    );
    if (question)
        if (auto filled = question->append("asas", 0, 1, "thaw-disk-*.target"); !filled)
            question = std::unexpected(std::move(filled).error());
    listing_ = bus_.call(std::move(question), [this](Result<BusMessage> reply) {
        on_listed(std::move(reply));
    });
}

void Hooks::on_listed(Result<BusMessage> reply) {
    const auto read = [&]() -> Result<> {
        THAW_CHECK(reply->enter_container('a', fmt::format("({})", kRow).c_str()));
        for (;;) {
            THAW_TRY(const bool more, reply->enter_container('r', kRow));
            if (!more) return {};
            const char *name = nullptr, *text = nullptr, *load = nullptr, *active = nullptr;
            THAW_CHECK(reply->read("ssss", &name, &text, &load, &active));
            if (is_up(active)) active_.insert(name);
            THAW_CHECK(reply->skip("ssouso"));
            THAW_CHECK(reply->exit_container());
        }
    };
    if (reply)
        if (auto done = read(); !done) reply = std::unexpected(std::move(done).error());
    if (!reply) log_warning("hooks of earlier levels may be left: {}", reply.error().message());
    listed_ = true;
    apply();
}

void Hooks::want(std::set<std::string> targets, bool all) {
    wanted_ = std::move(targets);
    wants_all_ = all;
    apply();
}

void Hooks::apply() {
    if (!listed_) return;
    for (const auto& target : wanted_)
        if (!active_.contains(target)) run(target, true);
    if (!wants_all_) return;
    const auto active = active_;
    for (const auto& target : active)
        if (!wanted_.contains(target)) run(target, false);
}

void Hooks::run(const std::string& target, bool on) {
    if (running_.contains(target)) return; // looked at again when it is done
    const auto done = [this, target, on](Result<std::string> result) {
        const auto handle = running_.extract(target);
        if (!result || *result != "done")
            log_warning(
                "{} could not be {}: {}", target, on ? "started" : "stopped",
                result ? *result : result.error().message()
            );
        // One that failed is not tried again before the level has changed to and fro.
        if (on)
            active_.insert(target);
        else
            active_.erase(target);
        apply();
    };
    running_[target] = on ? systemd_.start_unit(target, "replace", done)
                          : systemd_.stop_unit(target, "replace", done);
}

} // namespace thaw::diskguard
