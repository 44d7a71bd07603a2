// SPDX-License-Identifier: MIT

// Sealing, removing and cleaning.

#include "image/listing.hpp"
#include "image/seal.hpp"
#include "image/staging.hpp"
#include "image/store.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::image {

namespace {

Result<Manifest> seal_locked(
    int directory, const Manifest& given, const Store::Progress& progress, Store::Warnings* warnings
) {
    struct stat st{};
    if (fstatat(directory, kManifestFile, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return fail(EEXIST, "is sealed already");
    THAW_CHECK(remove_temporaries(directory));
    return seal_directory(directory, given, progress, warnings);
}

// Names of the images that are laid right over the one in `directory`.
Result<std::vector<std::string>> layers_over(int root, std::string_view name, int directory) {
    const auto own = load_manifest(directory);
    THAW_TRY(const auto entries, list_directory(root));
    std::vector<std::string> over;
    for (const auto& entry : entries) {
        if (entry.starts_with('.')) continue;
        const auto other = open_image_directory(root, entry);
        if (!other) continue;
        const auto manifest = load_manifest(other->get());
        if (!manifest) continue;
        const auto& base = manifest->base;
        if (!base) continue;
        // A damaged manifest has no id to compare: then the name decides.
        const bool laid_over = own ? base->id == own->id : base->name == name;
        if (laid_over) over.push_back(entry);
    }
    return over;
}

// Temporaries of an interrupted seal inside an image that nobody works on.
Result<unsigned> clean_image(int root, const std::string& name) {
    const auto directory = open_beneath(root, name, O_RDONLY | O_DIRECTORY);
    if (!directory || flock(directory->get(), LOCK_EX | LOCK_NB) < 0) return 0U;
    return remove_temporaries(directory->get());
}

} // namespace

Result<Fd> lock_image(int root, std::string_view name) {
    auto directory = open_beneath(root, std::string(name), O_RDONLY | O_DIRECTORY);
    if (!directory) {
        struct stat st{};
        const bool link = fstatat(root, std::string(name).c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                          S_ISLNK(st.st_mode);
        if (link) return fail(ELOOP, "image '{}': is a symbolic link", name);
        if (directory.error().code() == ENOENT)
            return fail(ENOENT, "image '{}': no such image", name);
        return std::unexpected(
            std::move(directory).error().with_context(fmt::format("image '{}'", name))
        );
    }
    if (flock(directory->get(), LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return fail(EBUSY, "image '{}': another operation works on it", name);
        return fail_errno(errno, "image '{}': lock", name);
    }
    return directory;
}

Result<Manifest> Store::seal(
    std::string_view name, const Manifest& given, const Progress& progress, Warnings* warnings
) const {
    THAW_CHECK(check_image_name(name));
    THAW_TRY(const auto root, open_root());
    THAW_TRY(const auto directory, lock_image(root.get(), name));
    auto sealed = seal_locked(directory.get(), given, progress, warnings);
    if (!sealed)
        return std::unexpected(
            std::move(sealed).error().with_context(fmt::format("image '{}'", name))
        );
    return sealed;
}

Result<> Store::remove(std::string_view name) const {
    THAW_CHECK(check_image_name(name));
    THAW_TRY(const auto root, open_root());
    // The lock moves along with the rename: clean() leaves the directory to us.
    THAW_TRY(const auto directory, lock_image(root.get(), name));
    // Whoever makes another layer over it holds the lock until that one can be seen.
    THAW_TRY(const auto over, layers_over(root.get(), name, directory.get()));
    if (!over.empty())
        return fail_named(
            kErrorImageHasLayers, EBUSY, "image '{}': other images are laid over it: {}", name,
            fmt::join(over, ", ")
        );
    THAW_TRY(const auto hidden, hidden_name(name));
    const std::string from(name);
    if (renameat2(root.get(), from.c_str(), root.get(), hidden.c_str(), RENAME_NOREPLACE) < 0)
        return fail_errno(errno, "image '{}': rename", name);
    if (fsync(root.get()) < 0) return fail_errno(errno, "{}: fsync", root_);
    return remove_tree(root_ + "/" + hidden);
}

Result<unsigned> Store::clean() const {
    THAW_TRY(const auto root, open_root());
    THAW_TRY(auto removed, clean_leftovers(root.get(), root_));
    THAW_TRY(const auto names, list_directory(root.get()));
    for (const auto& name : names) {
        if (name.starts_with('.')) continue;
        THAW_TRY(const auto inside, clean_image(root.get(), name));
        removed += inside;
    }
    return removed;
}

} // namespace thaw::image
