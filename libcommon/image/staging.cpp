// SPDX-License-Identifier: MIT

#include "image/staging.hpp"

#include "core/file.hpp"
#include "core/text.hpp"
#include "image/listing.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <tuple>

namespace thaw::image {

namespace {

constexpr std::string_view kSuffix = ".partial";
constexpr int kAttempts = 16;
constexpr std::size_t kRandomBytes = 6;

// True when `directory` is locked by us now and still has its name (a cleaner that was faster may
// have removed it between mkdir and flock).
bool lock_directory(int directory) {
    if (flock(directory, LOCK_EX | LOCK_NB) < 0) return false;
    struct stat st{};
    return fstat(directory, &st) == 0 && st.st_nlink > 0;
}

} // namespace

bool is_leftover_name(std::string_view entry) {
    return entry.starts_with('.') && entry.ends_with(kSuffix);
}

Result<std::string> hidden_name(std::string_view name) {
    std::array<unsigned char, kRandomBytes> random{};
    if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
        return fail_errno(errno, "getrandom");
    // An image's name may be long; a directory entry holds 255 bytes.
    return fmt::format(".{}.{}{}", name, hex_encode(random.data(), random.size()), kSuffix);
}

Staging::Staging(int root_fd, std::string root, std::string entry, Fd directory)
    : root_fd_(root_fd), root_(std::move(root)), entry_(std::move(entry)),
      directory_(std::move(directory)) {}

Staging::Staging(Staging&& other) noexcept
    : root_fd_(other.root_fd_), root_(std::move(other.root_)),
      entry_(std::exchange(other.entry_, {})), directory_(std::move(other.directory_)) {}

Staging::~Staging() {
    // Best effort: what stays is a leftover that the next clean() removes.
    if (!entry_.empty()) std::ignore = remove_tree(root_ + "/" + entry_);
}

Result<Staging> Staging::create(int root_fd, std::string root, std::string_view name) {
    for (int attempt = 0; attempt < kAttempts; attempt++) {
        THAW_TRY(auto entry, hidden_name(name));
        if (mkdirat(root_fd, entry.c_str(), 0700) < 0) {
            if (errno == EEXIST) continue;
            return fail_errno(errno, "{}: create a directory", root);
        }
        auto directory = open_beneath(root_fd, entry, O_RDONLY | O_DIRECTORY);
        if (!directory && directory.error().code() == ENOENT) continue; // cleaned away already
        if (!directory) return std::unexpected(std::move(directory).error());
        if (lock_directory(directory->get()))
            return Staging(root_fd, std::move(root), std::move(entry), std::move(*directory));
    }
    return fail(EBUSY, "{}: no temporary directory could be made", root);
}

Result<> Staging::publish(const std::string& name) {
    if (renameat2(root_fd_, entry_.c_str(), root_fd_, name.c_str(), RENAME_NOREPLACE) < 0) {
        if (errno == EEXIST) return fail(EEXIST, "image '{}' exists", name);
        return fail_errno(errno, "{}: publish image '{}'", root_, name);
    }
    entry_.clear();
    if (fsync(root_fd_) < 0) return fail_errno(errno, "{}: fsync", root_);
    return {};
}

Result<unsigned> clean_leftovers(int root_fd, const std::string& root) {
    THAW_TRY(const auto entries, list_directory(root_fd));
    unsigned removed = 0;
    for (const auto& entry : entries) {
        if (!is_leftover_name(entry)) continue;
        const auto directory = open_beneath(root_fd, entry, O_RDONLY | O_DIRECTORY);
        // Not a directory, or gone meanwhile: not ours to remove.
        if (!directory) continue;
        if (flock(directory->get(), LOCK_EX | LOCK_NB) < 0) {
            if (errno == EWOULDBLOCK) continue; // somebody works in it
            return fail_errno(errno, "{}/{}: lock", root, entry);
        }
        THAW_CHECK(remove_tree(fmt::format("{}/{}", root, entry)));
        removed++;
    }
    return removed;
}

} // namespace thaw::image
