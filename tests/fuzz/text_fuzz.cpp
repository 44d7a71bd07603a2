// SPDX-License-Identifier: MIT
#include "core/names.hpp"
#include "core/text.hpp"
#include "target.hpp"

using thaw::fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto bytes = thaw::parse_size(text))
        require(thaw::parse_size(thaw::format_size(*bytes)).value() <= *bytes);
    if (const auto span = thaw::parse_timespan(text))
        require(thaw::parse_timespan(thaw::format_timespan(*span)).value() == *span);
    static_cast<void>(thaw::parse_bool(text).has_value());
    static_cast<void>(thaw::parse_unsigned(text, 1000).has_value());
    if (const auto decoded = thaw::hex_decode(text))
        require(thaw::hex_encode(decoded->data(), decoded->size()).size() == size);
    if (const auto name = thaw::unit_unescape(text))
        require(thaw::unit_unescape(thaw::unit_escape(*name)).value() == *name);
    if (const auto vm = thaw::vm_of_vmm_unit(text)) require(thaw::vmm_unit(*vm) == text);
    if (thaw::is_valid_vm_name(text))
        require(thaw::vm_of_vmm_unit(thaw::vmm_unit(text)).value() == text);
    return 0;
}
