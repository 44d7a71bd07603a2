// SPDX-License-Identifier: MIT
#include "trouble.hpp"

#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <chrono>

namespace thaw::rootfs {

bool Trouble::is_time(Request request, bool no_space) {
    const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
    const auto now = static_cast<Microseconds>(
        std::chrono::duration_cast<std::chrono::microseconds>(since_boot).count()
    );
    auto& last = told_.at(static_cast<std::size_t>(request) * 2 + (no_space ? 1 : 0));
    const Microseconds before = last.exchange(now);
    return before == 0 || now - before > kQuiet;
}

int Trouble::tell(Request request, const Error& error) {
    const int code = error.code();
    if (code == EINVAL) return EINVAL; // the client's own mistake
    const bool no_space = code == ENOSPC || code == ENOMEM || code == EDQUOT || code == EFBIG;
    if (is_time(request, no_space)) {
        const LogFields fields{{"THAW_INSTANCE", name_}, {"ERRNO", std::to_string(code)}};
        const auto* const verb = request == Request::Read    ? "read"
                                 : request == Request::Write ? "written"
                                                             : "made safe";
        if (no_space && request != Request::Read)
            log_event(
                LogLevel::Error, message_id::kRootfsNoSpace, fields,
                "{}: its root file system has no room: {}", name_, error.message()
            );
        else
            log_event(
                LogLevel::Error, message_id::kRootfsFailed, fields,
                "{}: blocks of its root file system could not be {}: {}", name_, verb,
                error.message()
            );
    }
    // A VMM may stop a guest for want of space and let it go on later; anything else is for good.
    return no_space && request != Request::Read ? ENOSPC : EIO;
}

} // namespace thaw::rootfs
