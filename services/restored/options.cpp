// SPDX-License-Identifier: MIT
#include "options.hpp"

#include "api/restore1.hpp"
#include "bus/errors.hpp"
#include "bus/properties.hpp"

#include <algorithm>

namespace thaw::restore {

namespace {

constexpr std::size_t kMostOverrides = 64;
constexpr Microseconds kLongestLoad = 24ULL * 3600 * kUsecPerSec;

Result<> read_overrides(BusMessage& message, NetworkOverrides& overrides) {
    THAW_CHECK(message.enter_container('v', "a(ss)"));
    THAW_CHECK(message.enter_container('a', "(ss)"));
    while (true) {
        THAW_TRY(const bool more, message.enter_container('r', "ss"));
        if (!more) break;
        const char *interface = nullptr, *device = nullptr;
        THAW_CHECK(message.read("ss", &interface, &device));
        THAW_CHECK(message.exit_container());
        overrides.emplace_back(interface, device);
    }
    if (overrides.size() > kMostOverrides)
        return fail(EINVAL, "more than {} network overrides", kMostOverrides);
    THAW_CHECK(message.exit_container());
    return message.exit_container();
}

Result<> read_shares(BusMessage& message, const Config& config, std::vector<ShareRequest>& shares) {
    THAW_TRY(shares, read_share_requests(message));
    // Before anything starts; with such VMMs about, the image tells which one it is for.
    if (!shares.empty() && config.virtio_fs_vmms.empty())
        return fail_named(
            restore1::error::kSharesUnsupported, EOPNOTSUPP,
            "Firecracker has no virtio-fs: a VM of it cannot have shares"
        );
    return {};
}

Result<> read_option(
    BusMessage& message, std::string_view key, const Config& config, RestoreOptions& options
) {
    const char* text = nullptr;
    if (key == "MemoryBackend") {
        THAW_CHECK(message.read("v", "s", &text));
        THAW_TRY(options.backend, parse_backend(text));
        return {};
    }
    for (const auto& [name, target] :
         {std::pair{std::string_view("Prefetch"), &options.prefetch}, {"Track", &options.track}}) {
        if (key != name) continue;
        int on = 0;
        THAW_CHECK(message.read("v", "b", &on));
        *target = on != 0;
        return {};
    }
    for (const auto& [name, target] :
         {std::pair{std::string_view("PrefetchRate"), &options.prefetch_rate},
          {"ReplayBudget", &options.replay_budget},
          {"SequentialBudget", &options.sequential_budget}}) {
        if (key != name) continue;
        std::uint64_t value = 0;
        THAW_CHECK(message.read("v", "t", &value));
        *target = value;
        return {};
    }
    if (key == "LoadTimeoutUSec") {
        THAW_CHECK(message.read("v", "t", &options.load_timeout));
        if (options.load_timeout == 0) return fail(EINVAL, "must be more than nothing");
        options.load_timeout = std::min(options.load_timeout, kLongestLoad);
        return {};
    }
    if (key == "OnPagerLoss") {
        THAW_CHECK(message.read("v", "s", &text));
        options.on_pager_loss = text;
        if (options.on_pager_loss != "poison" && options.on_pager_loss != "stop")
            return fail(EINVAL, "neither poison nor stop");
        return {};
    }
    if (key == "NetworkOverrides") return read_overrides(message, options.network_overrides);
    if (key == "Shares") return read_shares(message, config, options.shares);
    if (key == "Rootfs") {
        THAW_TRY(options.rootfs, read_rootfs_request(message));
        return {};
    }
    return fail(EINVAL, "unknown option");
}

} // namespace

Result<RestoreOptions> read_options(BusMessage& message, const Config& config) {
    RestoreOptions options{.load_timeout = config.load_timeout};
    THAW_CHECK(for_each_property(message, [&](std::string_view key) -> Result<> {
        if (auto done = read_option(message, key, config, options); !done)
            return std::unexpected(
                std::move(done).error().with_context(key).with_bus_name(kErrorInvalidArgs)
            );
        return {};
    }));
    return options;
}

} // namespace thaw::restore
