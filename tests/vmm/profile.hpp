// SPDX-License-Identifier: MIT
#pragma once

#include "guest_parameters.hpp"
#include "result.hpp"

#include <map>
#include <optional>
#include <set>
#include <string>

namespace thaw::standin {

/// How the stand-in behaves; every key is described in README.md. The default is a well-behaved
/// VMM of the newest generation.
struct Profile {
    /// Minor version of 1.x; "main" is the largest.
    unsigned generation = 9999;
    std::string generation_name = "main";
    std::string vmm_version; ///< answered by GET / and /version; empty: from the generation

    std::set<std::string> faults; ///< the boolean misbehaviours that are on
    unsigned descriptors = 1;
    std::uint64_t huge_json_bytes = 4U << 20;
    unsigned split_pieces = 1;
    unsigned split_delay_ms = 0;

    std::string load_error;
    std::string resume_error;
    std::map<std::string, std::string> api_error; ///< "PATCH /vm" -> fault message
    unsigned slow_load_ms = 0;
    unsigned api_delay_ms = 0;
    std::string die_at;
    unsigned die_after_ms = 0;
    int die_exit_code = 1;
    std::optional<int> die_signal;
    std::optional<unsigned> exit_delay_ms;
    bool count_sigbus = false;
    unsigned device_touch_pages = 16;
    nlohmann::json vm_config; ///< members laid over the answer to GET /vm/config
    GuestParameters guest;
    nlohmann::json guest_json; ///< as given, applied over the snapshot's own parameters

    bool has(const char* fault) const { return faults.contains(fault); }
    bool has_page_size_kib() const { return generation >= 7; }
    bool has_page_size() const { return generation >= 12; }
    bool always_wants_remove() const { return generation >= 12; }
    bool has_resident_diff() const { return generation >= 13; }
    bool keeps_socket() const { return generation >= 12 && !has("early_eof"); }
    /// Before 1.11 the balloon mapped fresh memory over a range instead of MADV_DONTNEED.
    bool balloon_maps_over() const { return generation < 11; }
    std::string version() const;
};

Result<Profile> parse_profile(const std::string& text);
Result<Profile> load_profile(const std::string& path);

} // namespace thaw::standin
