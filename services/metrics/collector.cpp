// SPDX-License-Identifier: MIT
#include "collector.hpp"

#include "log/log.hpp"

#include <nlohmann/json.hpp>

namespace thaw::metrics {

namespace {

// A scraper waits some ten seconds.
constexpr Microseconds kCallLimit = 3 * kUsecPerSec;
constexpr unsigned kAnswersEach = 2;

} // namespace

Collector::Collector(Bus& bus, std::function<void(const Answers&)> done)
    : bus_(bus), done_(std::move(done)) {
    for (std::size_t i = 0; i < kDaemons.size(); ++i) {
        ask(i, "org.freedesktop.DBus.Properties", "GetAll", true);
        ask(i, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", false);
    }
}

void Collector::ask(std::size_t index, const char* interface, const char* member, bool manager) {
    const auto& daemon = kDaemons[index];
    auto call = bus_.new_call(daemon.bus_name, daemon.path, interface, member);
    if (call) {
        // Whoever measures must not start what is measured.
        sd_bus_message_set_auto_start(call->get(), 0);
        if (manager)
            if (auto filled = call->append("s", daemon.manager); !filled)
                call = std::unexpected(std::move(filled).error());
    }
    ++missing_;
    calls_.push_back(bus_.call(
        std::move(call),
        [this, index, manager](Result<BusMessage> reply) {
            on_answer(index, manager, std::move(reply));
        },
        kCallLimit
    ));
}

void Collector::on_answer(std::size_t index, bool manager, Result<BusMessage> reply) {
    auto& answer = answers_[index];
    Result<> read;
    if (!reply) {
        read = std::unexpected(std::move(reply).error());
    } else if (manager) {
        auto properties = read_json_properties(*reply);
        if (properties)
            answer.manager = std::move(*properties);
        else
            read = std::unexpected(std::move(properties).error());
    } else {
        auto objects = read_managed_objects(*reply);
        if (objects)
            answer.objects = std::move(*objects);
        else
            read = std::unexpected(std::move(objects).error());
    }
    if (read)
        ++good_[index];
    else
        log_debug("{}: {}", kDaemons[index].name, read.error().message());
    answer.up = good_[index] == kAnswersEach;
    if (--missing_ > 0) return;
    const auto done = std::move(done_);
    const auto answers = std::move(answers_);
    done(answers); // `this` may be gone now
}

} // namespace thaw::metrics
