// SPDX-License-Identifier: MIT

// complete, quiesce, prefetch: what is asked of the pager session of one VM. The broker takes such
// calls from uid 0 only.

#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "client.hpp"
#include "exit_codes.hpp"
#include "progress_bar.hpp"
#include "verbs.hpp"

#include <unistd.h>

namespace thaw::ctl {

namespace {

constexpr Microseconds kPoll = 100 * kUsecPerMsec;
// The broker gives up on a barrier before that.
constexpr Microseconds kQuiesceLimit = 15 * kUsecPerSec;

Result<BusMessage> change_call(Client& client, const std::string& name, const char* member) {
    THAW_TRY(
        auto reply, client.simple(
                        pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "GetSession",
                        "s", name.c_str()
                    )
    );
    const char* path = nullptr;
    THAW_CHECK(reply.read("o", &path));
    return client.new_call(pager1::kBusName, path, pager1::kSessionInterface, member);
}

Result<> change(Client& client, const std::string& name, const char* member, Microseconds limit) {
    THAW_TRY(auto call, change_call(client, name, member));
    THAW_CHECK(call.append("t", std::uint64_t{0}));
    THAW_CHECK(client.call(call, limit));
    return {};
}

double fraction_of(const Properties& session) {
    const auto total = session.number("MemorySize");
    const auto done = session.number("PopulateDone");
    return total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total);
}

// Until the session says that it is complete, or ends some other way.
Result<Properties> wait_complete(Client& client, const std::string& name) {
    const auto path = encode_object_path(pager1::kSessionPrefix, name);
    ProgressBar bar;
    for (;;) {
        THAW_TRY(
            auto session, client.properties(pager1::kBusName, path, pager1::kSessionInterface)
        );
        const auto state = session.text("State");
        if (state == "complete") return session;
        if (state != "serving")
            return fail(
                EIO, "the session is {}{}{}", state,
                session.text("ErrorMessage").empty() ? "" : ": ", session.text("ErrorMessage")
            );
        bar.show(fraction_of(session), "Loading all memory of " + name);
        usleep(kPoll);
    }
}

} // namespace

Result<int> verb_complete(const SessionArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_CHECK(change(client, arguments.name, "Complete", 0));
    if (arguments.no_block) return kExitOk;
    const auto begin = now_monotonic();
    THAW_TRY(const auto session, wait_complete(client, arguments.name));
    if (options.json != JsonMode::Off) {
        print_json(session.values, options.json);
        return kExitOk;
    }
    fmt::print(
        "All of {} of VM \"{}\" is loaded ({}); it needs no pager any more.\n",
        format_size(session.number("MemorySize")), arguments.name,
        format_timespan(now_monotonic() - begin)
    );
    return kExitOk;
}

Result<int> verb_quiesce(const SessionArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_CHECK(
        change(client, arguments.name, arguments.release ? "Resume" : "Quiesce", kQuiesceLimit)
    );
    return kExitOk;
}

Result<int> verb_prefetch(const SessionArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(auto call, change_call(client, arguments.name, "SetPrefetch"));
    THAW_CHECK(call.open_container('a', "{sv}"));
    if (arguments.prefetch)
        THAW_CHECK(call.append("{sv}", "Prefetch", "b", static_cast<int>(*arguments.prefetch)));
    for (const auto& [key, text] :
         {std::pair{"PrefetchRate", &arguments.rate},
          {"ReplayBudget", &arguments.replay_budget},
          {"SequentialBudget", &arguments.sequential_budget}}) {
        if (text->empty()) continue;
        THAW_TRY(const auto size, parse_size(*text));
        THAW_CHECK(call.append("{sv}", key, "t", size));
    }
    THAW_CHECK(call.close_container());
    THAW_CHECK(call.append("t", std::uint64_t{0}));
    THAW_CHECK(client.call(call));
    return kExitOk;
}

} // namespace thaw::ctl
