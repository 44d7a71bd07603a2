// SPDX-License-Identifier: MIT
#include "config/ini.hpp"
#include "core/text.hpp"
#include "target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string name;
    bool flag = false;
    std::uint64_t bytes = 0;
    std::uint64_t delay = 0;
    std::uint64_t count = 5;
    std::vector<std::string> words;
    const std::vector<thaw::ConfigKey> keys = {
        {"A", "Name", thaw::config_string(&name)},
        {"A", "Flag", thaw::config_bool(&flag)},
        {"A", "Size", thaw::config_size(&bytes)},
        {"B", "DelaySec", thaw::config_timespan(&delay)},
        {"B", "Count", thaw::config_unsigned(&count, 1, 10)},
        {"B", "Words", thaw::config_words(&words)},
    };
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    for (const auto& warning : thaw::parse_config(text, "fuzz.conf", keys)) {
        thaw::fuzz::require(warning.line > 0 && warning.line <= size + 1);
        thaw::fuzz::require(thaw::is_valid_utf8(warning.text));
    }
    thaw::fuzz::require(count >= 1 && count <= 10);
    thaw::fuzz::require(thaw::is_valid_utf8(name));
    for (const auto& word : words)
        thaw::fuzz::require(!word.empty() && thaw::is_valid_utf8(word));
    return 0;
}
