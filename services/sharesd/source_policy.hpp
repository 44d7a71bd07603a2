// SPDX-License-Identifier: MIT
#pragma once

// Which directories may be shared, by their names. Pure decisions; that the name leads where it
// seems to is source.hpp's concern.

#include "core/enum_table.hpp"
#include "core/error.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::sharesd {

// Absolute, no "." or "..", no empty components, no control characters, not "/". SourceInvalid.
Result<> check_source_path(std::string_view path);

// Is `path` one of these directories, or below one? Whole components count.
bool is_below(std::string_view path, std::string_view directory);
bool is_allowed(std::string_view path, const std::vector<std::string>& allowed);

enum class ChurnPolicy { Refuse, Warn, Allow };
inline constexpr EnumTable kChurnPolicyNames{std::array{
    std::pair{ChurnPolicy::Refuse, std::string_view("refuse")},
    std::pair{ChurnPolicy::Warn, std::string_view("warn")},
    std::pair{ChurnPolicy::Allow, std::string_view("allow")},
}};

// Directories whose files come and go by the hundred thousand. A pattern is a list of components
// ("/"-separated) that may stand anywhere in a path.
const std::vector<std::string>& default_churning_caches();
// The pattern that `path` matches: it is such a directory, or is inside one.
std::optional<std::string>
find_churning_cache(std::string_view path, const std::vector<std::string>& patterns);

} // namespace thaw::sharesd
