// SPDX-License-Identifier: MIT

// metrics: OpenMetrics text, the same that thaw-metrics.socket answers.

#include "client.hpp"
#include "exit_codes.hpp"
#include "metrics/suite.hpp"
#include "overlay_view.hpp"
#include "verbs.hpp"

#include <optional>

namespace thaw::ctl {

namespace {

// Whoever measures must not start what is measured.
Result<BusMessage> passive_call(
    Client& client, const metrics::Daemon& daemon, const char* interface, const char* member
) {
    THAW_TRY(auto call, client.new_call(daemon.bus_name, daemon.path, interface, member));
    sd_bus_message_set_auto_start(call.get(), 0);
    return call;
}

Result<metrics::Answer> ask(Client& client, const metrics::Daemon& daemon) {
    THAW_TRY(auto get, passive_call(client, daemon, "org.freedesktop.DBus.Properties", "GetAll"));
    THAW_CHECK(get.append("s", daemon.manager));
    THAW_TRY(auto manager, client.call(get));
    metrics::Answer answer;
    THAW_TRY(answer.manager, read_json_properties(manager));
    THAW_TRY(
        const auto list,
        passive_call(client, daemon, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    );
    THAW_TRY(auto objects, client.call(list));
    THAW_TRY(answer.objects, read_managed_objects(objects));
    answer.up = true;
    return answer;
}

} // namespace

Result<int> verb_metrics(const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    metrics::Answers answers;
    for (std::size_t i = 0; i < answers.size(); ++i)
        answers[i] = ask(client, metrics::kDaemons[i]).value_or(metrics::Answer{});
    const auto overlays = ask_overlays();
    fmt::print("{}", metrics::suite_exposition(answers, overlays ? &*overlays : nullptr));
    return kExitOk;
}

} // namespace thaw::ctl
