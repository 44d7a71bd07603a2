// SPDX-License-Identifier: MIT
#pragma once

// The part of a manifest that says where else an image's memory and root file system are.

#include "config/json.hpp"
#include "image/manifest.hpp"

#include <nlohmann/json_fwd.hpp>

namespace thaw::image {

// The member "source".
Result<RemoteSource> parse_source(const JsonView& root);
nlohmann::json source_json(const RemoteSource& source);
// EBADMSG, also for a difference that claims to be remote. Content without a source.
Result<> check_source(const Manifest& manifest);

} // namespace thaw::image
