// SPDX-License-Identifier: MIT
#pragma once

// /etc/thaw/fetchd.conf and its drop-ins, section [Fetch]. Read once at start.

#include "config/ini.hpp"
#include "core/text.hpp"
#include "protocol/fetch_control.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::fetchd {

struct Config {
    // Name look-up, TCP and TLS together.
    Microseconds connect_timeout = 10 * kUsecPerSec;
    // Without a byte for so long the try is over.
    Microseconds stall_timeout = 15 * kUsecPerSec;
    // A whole request, all tries together. An upload has as much for every 4 MiB of it.
    Microseconds total_timeout = 60 * kUsecPerSec;
    // The first one included.
    std::uint64_t most_tries = 4;
    // Before the second try; doubled each time up to the maximum, plus up to a quarter by chance.
    Microseconds backoff = 50 * kUsecPerMsec;
    Microseconds backoff_max = 500 * kUsecPerMsec;
    // Requests that one server has at the same time; the others wait their turn.
    std::uint64_t most_transfers = 16;
    // Without anybody connected for so long the process ends; the socket starts it again.
    Microseconds idle_exit = 30 * kUsecPerSec;
    // "http://proxy:3128"; empty: servers are asked directly.
    std::string proxy;
    // Where systemd put the credentials; empty: there are none.
    std::string credentials;
};

struct LoadedConfig {
    Config config;
    std::vector<ConfigWarning> warnings;
};
// $THAW_FETCHD_CONFIG names another file than the installed one (its .conf.d is read as well);
// $CREDENTIALS_DIRECTORY is systemd's.
Result<LoadedConfig> load_config();

// The keys of [Fetch], storing into `config`, which must outlive them.
std::vector<ConfigKey> config_keys(Config& config);

} // namespace thaw::fetchd
