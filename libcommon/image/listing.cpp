// SPDX-License-Identifier: MIT

#include "image/listing.hpp"

#include "core/file.hpp"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace thaw::image {

Result<std::vector<std::string>> list_directory(int directory) {
    // An open file of its own: readdir() moves the shared offset.
    THAW_TRY(auto fd, open_at(directory, ".", O_RDONLY | O_DIRECTORY));
    const auto close = [](DIR* stream) { closedir(stream); };
    const std::unique_ptr<DIR, decltype(close)> stream(fdopendir(fd.get()), close);
    if (!stream) return fail_errno(errno, "read directory");
    (void)fd.release(); // closedir() closes it
    std::vector<std::string> names;
    for (;;) {
        errno = 0;
        const auto* entry = readdir(stream.get());
        if (entry == nullptr && errno != 0) return fail_errno(errno, "read directory");
        if (entry == nullptr) break;
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    std::ranges::sort(names);
    return names;
}

} // namespace thaw::image
