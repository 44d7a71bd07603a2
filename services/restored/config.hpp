// SPDX-License-Identifier: MIT
#pragma once

// /etc/thaw/restored.conf. The defaults are those of the sample beside this file; a test compares.

#include "config/ini.hpp"
#include "core/text.hpp"
#include "job_state.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::restore {

struct Config {
    Backend memory_backend = Backend::Auto;
    bool prefetch = true;
    bool recording = true;
    Microseconds load_timeout = 30 * kUsecPerSec;
    Microseconds record_max = 10 * kUsecPerSec;
    std::uint64_t max_jobs = 256;
    std::uint64_t max_parallel = 32;
    std::uint64_t keep_free = 4 << 20;
    // Kinds of VMM, as manifests name them, that have virtio-fs and are driven like Firecracker. No
    // VMM of today is one: the tests' stand-in is.
    std::vector<std::string> virtio_fs_vmms;
    std::uint64_t lease_size = 16 << 20;
};

// The known keys, storing into `config` (which must outlive them).
std::vector<ConfigKey> config_keys(Config* config);
Result<Config> read_restored_config(std::vector<ConfigWarning>* warnings);

// "auto", "uffd", "file".
Result<Backend> parse_backend(std::string_view word);

} // namespace thaw::restore
