// SPDX-License-Identifier: MIT
#include "fetch/file_identity.hpp"

#include <sys/stat.h>

namespace thaw::fetch {

Result<protocol::SourceIdentity> file_identity(int fd) {
    struct stat status{};
    if (::fstat(fd, &status) < 0) return fail_errno(errno, "look at the source");
    if (!S_ISREG(status.st_mode)) return fail(EINVAL, "the source is not a regular file");
    return protocol::SourceIdentity{
        .length = static_cast<std::uint64_t>(status.st_size),
        .etag = fmt::format(
            "\"{}-{}.{:09}\"", status.st_ino, status.st_mtim.tv_sec, status.st_mtim.tv_nsec
        ),
    };
}

} // namespace thaw::fetch
