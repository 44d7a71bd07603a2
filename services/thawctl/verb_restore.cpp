// SPDX-License-Identifier: MIT

#include "api/restore1.hpp"
#include "client.hpp"
#include "core/names.hpp"
#include "exit_codes.hpp"
#include "instance_config.hpp"
#include "job_report.hpp"
#include "job_wait.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

namespace {

struct RestoreRequest {
    std::string name;
    std::string image;
    std::string memory_backend;
    std::optional<bool> prefetch;
    bool track = false;
    std::optional<std::uint64_t> load_timeout;
    std::vector<std::pair<const char*, std::uint64_t>> limits; // of prefetch
    std::vector<NetworkOverride> overrides;
    std::string rootfs; // base; empty: no overlay
    std::vector<std::pair<const char*, std::uint64_t>> rootfs_sizes;
    bool rootfs_durable = false;
    std::string rootfs_drive;
};

Result<> read_rootfs(const OverlayArguments& arguments, RestoreRequest& request) {
    request.rootfs = arguments.base;
    request.rootfs_durable = arguments.durable;
    request.rootfs_drive = arguments.drive;
    for (const auto& [key, text] :
         {std::pair{"Size", &arguments.size},
          {"MemoryMax", &arguments.memory_max},
          {"DiskMax", &arguments.disk_max}}) {
        if (text->empty()) continue;
        THAW_TRY(const auto size, parse_size(*text));
        request.rootfs_sizes.emplace_back(key, size);
    }
    return {};
}

Result<RestoreRequest> request_of(const RestoreArguments& arguments) {
    RestoreRequest request;
    request.name = arguments.name;
    request.image = arguments.image;
    request.memory_backend = arguments.memory_backend;
    request.prefetch = arguments.prefetch;
    request.track = arguments.track;
    auto overrides = arguments.network_overrides;
    if (!arguments.load_timeout.empty()) {
        THAW_TRY(request.load_timeout, parse_timespan(arguments.load_timeout));
    }
    for (const auto& [key, text] :
         {std::pair{"PrefetchRate", &arguments.prefetch_rate},
          {"ReplayBudget", &arguments.replay_budget},
          {"SequentialBudget", &arguments.sequential_budget}}) {
        if (text->empty()) continue;
        THAW_TRY(const auto size, parse_size(*text));
        request.limits.emplace_back(key, size);
    }
    auto rootfs = arguments.rootfs;
    if (arguments.from_config) {
        std::vector<ConfigWarning> warnings;
        THAW_TRY(
            const auto config,
            read_instance_config(arguments.instances_directory, arguments.name, &warnings)
        );
        for (const auto& warning : warnings)
            print_warning(fmt::format("{}:{}: {}", warning.file, warning.line, warning.text));
        request.image = config.image;
        if (request.memory_backend.empty()) request.memory_backend = config.memory_backend;
        if (!request.prefetch) request.prefetch = config.prefetch;
        if (!request.load_timeout) request.load_timeout = config.load_timeout;
        request.track = request.track || config.track;
        if (overrides.empty()) overrides = config.network_overrides;
        if (rootfs.base.empty()) rootfs = config.rootfs;
    }
    THAW_CHECK(read_rootfs(rootfs, request));
    for (const auto& text : overrides) {
        THAW_TRY(auto parsed, parse_network_override(text));
        request.overrides.push_back(std::move(parsed));
    }
    return request;
}

Result<> append_overrides(BusMessage& message, const std::vector<NetworkOverride>& overrides) {
    THAW_CHECK(message.open_container('e', "sv"));
    THAW_CHECK(message.append("s", "NetworkOverrides"));
    THAW_CHECK(message.open_container('v', "a(ss)"));
    THAW_CHECK(message.open_container('a', "(ss)"));
    for (const auto& entry : overrides)
        THAW_CHECK(message.append("(ss)", entry.interface.c_str(), entry.device.c_str()));
    THAW_CHECK(message.close_container());
    THAW_CHECK(message.close_container());
    return message.close_container();
}

Result<> append_rootfs(BusMessage& message, const RestoreRequest& request) {
    THAW_CHECK(message.open_container('e', "sv"));
    THAW_CHECK(message.append("s", "Rootfs"));
    THAW_CHECK(message.open_container('v', "a{sv}"));
    THAW_CHECK(message.open_container('a', "{sv}"));
    THAW_CHECK(message.append("{sv}", "Base", "s", request.rootfs.c_str()));
    for (const auto& [key, size] : request.rootfs_sizes)
        THAW_CHECK(message.append("{sv}", key, "t", size));
    if (request.rootfs_durable) THAW_CHECK(message.append("{sv}", "Durable", "b", 1));
    if (!request.rootfs_drive.empty())
        THAW_CHECK(message.append("{sv}", "Drive", "s", request.rootfs_drive.c_str()));
    THAW_CHECK(message.close_container());
    THAW_CHECK(message.close_container());
    return message.close_container();
}

Result<BusMessage> make_call(const Client& client, const RestoreRequest& request) {
    THAW_TRY(
        auto message,
        client.new_call(
            restore1::kBusName, restore1::kPath, restore1::kManagerInterface, "RestoreInstance"
        )
    );
    THAW_CHECK(message.append("ss", request.name.c_str(), request.image.c_str()));
    THAW_CHECK(message.open_container('a', "{sv}"));
    if (!request.memory_backend.empty())
        THAW_CHECK(message.append("{sv}", "MemoryBackend", "s", request.memory_backend.c_str()));
    if (request.prefetch)
        THAW_CHECK(message.append("{sv}", "Prefetch", "b", static_cast<int>(*request.prefetch)));
    if (request.track) THAW_CHECK(message.append("{sv}", "Track", "b", 1));
    for (const auto& [key, value] : request.limits)
        THAW_CHECK(message.append("{sv}", key, "t", value));
    if (request.load_timeout)
        THAW_CHECK(message.append("{sv}", "LoadTimeoutUSec", "t", *request.load_timeout));
    if (!request.overrides.empty()) THAW_CHECK(append_overrides(message, request.overrides));
    if (!request.rootfs.empty()) THAW_CHECK(append_rootfs(message, request));
    THAW_CHECK(message.close_container());
    THAW_CHECK(message.append("t", std::uint64_t{0}));
    return message;
}

} // namespace

Result<int> verb_restore(const RestoreArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const auto request, request_of(arguments));
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(const auto call, make_call(client, request));
    if (arguments.no_block) return print_queued(client, call, options);
    JobWait wait(client);
    auto outcome = wait.run(call, "Restoring " + request.name);
    if (!outcome)
        return std::unexpected(std::move(outcome).error().with_context(
            fmt::format("restoring VM \"{}\"", request.name)
        ));
    if (outcome->result == "done" && options.json == JsonMode::Off) {
        const auto backend = outcome->properties.text("Backend");
        const auto reason = outcome->properties.text("BackendReason");
        fmt::print(
            "Restored VM \"{}\" from image \"{}\" in {}{}{}.\n", request.name, request.image,
            format_timespan(outcome->elapsed),
            backend.empty() ? "" : ", memory backend " + printable(backend),
            reason.empty() ? "" : " (" + printable(reason) + ")"
        );
    }
    return conclude(
        *outcome, fmt::format("restore of VM \"{}\"", request.name), request.name, options
    );
}

Result<int> verb_stop(const StopArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(
        auto call,
        client.new_call(
            restore1::kBusName, restore1::kPath, restore1::kManagerInterface, "StopInstance"
        )
    );
    THAW_CHECK(call.append("st", arguments.name.c_str(), std::uint64_t{0}));
    const auto missing = [&](const Error& error) {
        return arguments.ignore_missing && error.bus_name() == restore1::error::kNoSuchInstance;
    };
    if (arguments.no_block) {
        auto queued = print_queued(client, call, options);
        if (!queued && missing(queued.error())) return kExitOk;
        return queued;
    }
    JobWait wait(client);
    auto outcome = wait.run(call, "Stopping " + arguments.name);
    if (!outcome && missing(outcome.error())) return kExitOk;
    if (!outcome)
        return std::unexpected(std::move(outcome).error().with_context(
            fmt::format("stopping VM \"{}\"", arguments.name)
        ));
    return conclude(
        *outcome, fmt::format("stop of VM \"{}\"", arguments.name), arguments.name, options
    );
}

} // namespace thaw::ctl
