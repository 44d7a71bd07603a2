// SPDX-License-Identifier: MIT
#include "config/json.hpp"
#include "core/text.hpp"
#include "target.hpp"

namespace {

// Looks at every value in every way; nothing may throw, and the depth is bounded.
void walk(const thaw::JsonView& view, unsigned depth) {
    thaw::fuzz::require(depth <= 32);
    static_cast<void>(view.as_string().has_value());
    static_cast<void>(view.as_unsigned().has_value());
    static_cast<void>(view.as_integer().has_value());
    static_cast<void>(view.as_bool().has_value());
    for (const auto& name : view.members())
        if (const auto member = view.at(name)) walk(*member, depth + 1);
    if (const auto elements = view.elements())
        for (const auto& element : *elements)
            walk(element, depth + 1);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto document = thaw::JsonDocument::parse({reinterpret_cast<const char*>(data), size});
    if (document)
        walk(document->root(), 0);
    else
        thaw::fuzz::require(thaw::is_valid_utf8(document.error().message()));
    return 0;
}
