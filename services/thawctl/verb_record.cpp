// SPDX-License-Identifier: MIT

// image record, snapshot: jobs of the restore manager whose result is an image's files.

#include "api/restore1.hpp"
#include "core/text.hpp"
#include "exit_codes.hpp"
#include "job_report.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

namespace {

Result<BusMessage> record_call(const Client& client, const ImageArguments& arguments) {
    THAW_TRY(
        auto call,
        client.new_call(
            restore1::kBusName, restore1::kPath, restore1::kManagerInterface, "RecordImage"
        )
    );
    THAW_CHECK(call.append("s", arguments.name.c_str()));
    THAW_CHECK(call.open_container('a', "{sv}"));
    if (arguments.runs != 1) THAW_CHECK(call.append("{sv}", "Runs", "u", arguments.runs));
    if (!arguments.max.empty()) {
        THAW_TRY(const auto limit, parse_timespan(arguments.max));
        THAW_CHECK(call.append("{sv}", "RecordMaxUSec", "t", limit));
    }
    if (arguments.allow_writes) THAW_CHECK(call.append("{sv}", "AllowWrites", "b", 1));
    THAW_CHECK(call.close_container());
    THAW_CHECK(call.append("t", std::uint64_t{0}));
    return call;
}

Result<BusMessage> snapshot_call(const Client& client, const SnapshotArguments& arguments) {
    THAW_TRY(
        auto call,
        client.new_call(
            restore1::kBusName, restore1::kPath, restore1::kManagerInterface, "SnapshotInstance"
        )
    );
    THAW_CHECK(call.append("ss", arguments.name.c_str(), arguments.image.c_str()));
    THAW_CHECK(call.open_container('a', "{sv}"));
    if (arguments.diff) THAW_CHECK(call.append("{sv}", "Diff", "b", 1));
    THAW_CHECK(call.close_container());
    THAW_CHECK(call.append("t", std::uint64_t{0}));
    return call;
}

} // namespace

Result<int> verb_image_record(const ImageArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(const auto call, record_call(client, arguments));
    if (arguments.no_block) return print_queued(client, call, options);
    JobWait wait(client);
    auto outcome = wait.run(call, "Recording " + arguments.name);
    const auto what = fmt::format("recording of image \"{}\"", arguments.name);
    if (!outcome) return std::unexpected(std::move(outcome).error().with_context(what));
    if (outcome->result == "done" && options.json == JsonMode::Off)
        fmt::print(
            "Recorded image \"{}\": {}.\n", arguments.name,
            printable(outcome->properties.text("Outcome"))
        );
    return conclude(*outcome, what, "", options);
}

Result<int> verb_snapshot(const SnapshotArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(const auto call, snapshot_call(client, arguments));
    if (arguments.no_block) return print_queued(client, call, options);
    JobWait wait(client);
    auto outcome = wait.run(call, "Snapshot of " + arguments.name);
    const auto what = fmt::format("snapshot of VM \"{}\"", arguments.name);
    if (!outcome) return std::unexpected(std::move(outcome).error().with_context(what));
    if (outcome->result == "done" && options.json == JsonMode::Off)
        fmt::print(
            "Made image \"{}\" of VM \"{}\": {}.\n", arguments.image, arguments.name,
            printable(outcome->properties.text("Outcome"))
        );
    return conclude(*outcome, what, arguments.name, options);
}

} // namespace thaw::ctl
