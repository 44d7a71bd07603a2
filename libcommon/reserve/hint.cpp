// SPDX-License-Identifier: MIT
#include "reserve/hint.hpp"

#include "core/text.hpp"
#include "reserve/measure.hpp"
#include "reserve/volume.hpp"

#include <utility>

namespace thaw::reserve {

std::string release_hint(int errno_value, const std::string& path) {
    if (errno_value != ENOSPC && errno_value != EDQUOT) return {};
    const auto releasable = releasable_at(path);
    if (!releasable || *releasable == 0) return {};
    const auto volume = find_volume(path);
    if (!volume) return {};
    return fmt::format(
        "Run 'thawctl reserve release {}' to get {} back that are held in reserve there.",
        volume->mount_point, format_size(*releasable)
    );
}

Error with_release_hint(Error error, const std::string& path) {
    const auto hint = release_hint(error.code(), path);
    if (hint.empty()) return error;
    const auto text = error.message() + "\n" + hint;
    return {error.bus_name(), error.code(), text};
}

} // namespace thaw::reserve
