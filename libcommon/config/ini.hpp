// SPDX-License-Identifier: MIT
#pragma once

// Configuration as systemd has it: INI file plus drop-ins. FILE is read from /etc, then every
// NAME.conf.d/*.conf from /usr/lib, /run and /etc (a file of the same name in a later place masks
// the earlier one; sorted by file name). Later assignments win; an empty assignment resets.
//
// Unknown sections and keys and values that do not parse are reported with file and line and
// ignored. A file that cannot be read (other than absent) is an Error.

#include "core/enum_table.hpp"
#include "core/error.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw {

struct ConfigWarning {
    std::string file;
    unsigned line = 0;
    std::string text;
};

// One known key. parse() stores the value and returns an Error text for a bad one.
struct ConfigKey {
    std::string section;
    std::string key;
    std::function<Result<>(std::string_view value)> parse;
};

struct ConfigLocation {
    std::string file;                  // "/etc/thaw/pagerd.conf"
    std::vector<std::string> drop_ins; // folders, lowest priority first
    // File and drop-in folders of /etc/thaw/NAME.conf (sysconfdir as configured). The environment
    // variable THAW_NAME_CONFIG (in capitals) names another file, whose drop-ins are in FILE.d
    // only.
    static ConfigLocation of_daemon(std::string_view name);
};

Result<std::vector<ConfigWarning>>
read_config(const ConfigLocation& location, const std::vector<ConfigKey>& keys);
// One text, e.g. an instance file; `file` names it in warnings.
std::vector<ConfigWarning>
parse_config(std::string_view text, const std::string& file, const std::vector<ConfigKey>& keys);

// One journal entry each, with CONFIG_FILE= and CONFIG_LINE=.
void log_config_warnings(const std::vector<ConfigWarning>& warnings);

// parse() functions for the usual types; `target` must outlive the ConfigKey.
std::function<Result<>(std::string_view)> config_string(std::string* target);
std::function<Result<>(std::string_view)> config_bool(bool* target);
std::function<Result<>(std::string_view)> config_size(std::uint64_t* target);
std::function<Result<>(std::string_view)> config_timespan(std::uint64_t* target);
std::function<Result<>(std::string_view)>
config_unsigned(std::uint64_t* target, std::uint64_t minimum, std::uint64_t maximum);
// Above 0, for times in which something has to be done.
std::function<Result<>(std::string_view)> config_positive_timespan(std::uint64_t* target);
std::function<Result<>(std::string_view)> config_absolute_path(std::string* target);
// Words separated by blanks; several assignments append, an empty one clears.
std::function<Result<>(std::string_view)> config_words(std::vector<std::string>* target);
// The same with absolute paths only: a relative one would allow nothing and look as if it did.
std::function<Result<>(std::string_view)> config_absolute_paths(std::vector<std::string>* target);

// One of the words of `table`, which must outlive the ConfigKey.
template <class E, std::size_t N>
std::function<Result<>(std::string_view)> config_word(const EnumTable<E, N>& table, E* target) {
    return [&table, target, initial = *target](std::string_view text) -> Result<> {
        const auto value = text.empty() ? initial : table.value(text);
        if (!value) return fail(EINVAL, "expected {}", table.alternatives());
        *target = *value;
        return {};
    };
}

} // namespace thaw
