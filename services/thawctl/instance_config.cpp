// SPDX-License-Identifier: MIT

#include "instance_config.hpp"

#include "core/file.hpp"
#include "core/names.hpp"
#include "core/text.hpp"

namespace thaw::ctl {

namespace {

std::vector<ConfigKey> instance_keys(InstanceConfig* config) {
    const auto backend = [config](std::string_view value) -> Result<> {
        config->memory_backend.clear();
        if (value.empty()) return {};
        THAW_TRY(config->memory_backend, check_backend(std::string(value)));
        return {};
    };
    const auto prefetch = [config](std::string_view value) -> Result<> {
        config->prefetch.reset();
        if (value.empty()) return {};
        THAW_TRY(config->prefetch, parse_bool(value));
        return {};
    };
    const auto track = [config](std::string_view value) -> Result<> {
        config->track = false;
        if (value.empty()) return {};
        THAW_TRY(config->track, parse_bool(value));
        return {};
    };
    const auto timeout = [config](std::string_view value) -> Result<> {
        config->load_timeout.reset();
        if (value.empty()) return {};
        THAW_TRY(config->load_timeout, parse_timespan(value));
        return {};
    };
    const auto overrides = [config](std::string_view value) -> Result<> {
        if (value.empty()) config->network_overrides.clear();
        for (auto& word : split_words(value)) {
            THAW_CHECK(parse_network_override(word));
            config->network_overrides.push_back(std::move(word));
        }
        return {};
    };
    const auto size = [](std::string* target) {
        return [target](std::string_view value) -> Result<> {
            if (!value.empty()) THAW_CHECK(parse_size(value));
            *target = value;
            return {};
        };
    };
    return {
        {"Instance", "Image", config_string(&config->image)},
        {"Instance", "MemoryBackend", backend},
        {"Instance", "Prefetch", prefetch},
        {"Instance", "Track", track},
        {"Instance", "LoadTimeoutSec", timeout},
        {"Instance", "NetworkOverrides", overrides},
        {"Instance", "Rootfs", config_string(&config->rootfs.base)},
        {"Instance", "RootfsSize", size(&config->rootfs.size)},
        {"Instance", "RootfsMemoryMax", size(&config->rootfs.memory_max)},
        {"Instance", "RootfsDiskMax", size(&config->rootfs.disk_max)},
        {"Instance", "RootfsDurable", config_bool(&config->rootfs.durable)},
        {"Instance", "RootfsDrive", config_string(&config->rootfs.drive)},
    };
}

} // namespace

Result<InstanceConfig> read_instance_config(
    const std::string& directory, const std::string& name, std::vector<ConfigWarning>* warnings
) {
    if (!is_valid_vm_name(name)) return fail(EINVAL, "'{}' is no VM name", name);
    const auto file = fmt::format("{}/{}.conf", directory, name);
    THAW_TRY(const auto text, read_file(file));
    InstanceConfig config;
    auto found = parse_config(text, file, instance_keys(&config));
    if (warnings != nullptr) warnings->insert(warnings->end(), found.begin(), found.end());
    if (config.image.empty()) return fail(EINVAL, "{}: no Image= in [Instance]", file);
    const OverlayArguments& rootfs = config.rootfs;
    const bool has_settings = rootfs.durable || !rootfs.size.empty() ||
                              !rootfs.memory_max.empty() || !rootfs.disk_max.empty() ||
                              !rootfs.drive.empty();
    if (rootfs.base.empty() && has_settings)
        return fail(EINVAL, "{}: settings of a root file system without Rootfs=", file);
    return config;
}

} // namespace thaw::ctl
