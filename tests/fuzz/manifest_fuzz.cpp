// SPDX-License-Identifier: MIT
#include "image/manifest.hpp"
#include "target.hpp"

using namespace thaw;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto manifest = image::parse_manifest({reinterpret_cast<const char*>(data), size});
    if (!manifest) return 0;
    fuzz::require(image::check_manifest(*manifest).has_value());
    // What is accepted is written and read back as the same.
    const auto text = image::format_manifest(*manifest);
    const auto again = image::parse_manifest(text);
    fuzz::require(again && image::format_manifest(*again) == text);
    return 0;
}
