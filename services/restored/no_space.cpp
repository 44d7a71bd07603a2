// SPDX-License-Identifier: MIT
#include "no_space.hpp"

#include "api/restore1.hpp"
#include "reserve/hint.hpp"

namespace thaw::restore {

bool is_no_space(const Error& cause) {
    return cause.code() == ENOSPC || cause.code() == EDQUOT;
}

Failure no_space(Error cause, const std::string& path) {
    // A disk that hangs is not asked for a hint.
    if (cause.code() == ETIMEDOUT)
        return {
            .name = restore1::error::kNoSpace,
            .message = std::move(cause).message(),
            .timed_out = true,
        };
    return {
        .name = restore1::error::kNoSpace,
        .message = reserve::with_release_hint(std::move(cause), path).message(),
    };
}

} // namespace thaw::restore
