// SPDX-License-Identifier: MIT

#include "image/copy.hpp"
#include "image/seal.hpp"
#include "image/staging.hpp"
#include "image/store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::image {

namespace {

// A file of the admin's, opened once: what is checked is what is taken.
struct SourceFile {
    std::string path;
    Fd fd;
    FileIdentity identity;
    bool linked = false; // the image holds the file itself
};

Result<SourceFile> open_source(const std::string& path) {
    SourceFile file{.path = path};
    auto fd = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (!fd && fd.error().code() == ELOOP)
        return fail(ELOOP, "{}: is a symbolic link; name the file itself", path);
    if (!fd) return std::unexpected(std::move(fd).error());
    struct stat st{};
    if (fstat(fd->get(), &st) < 0) return fail_errno(errno, "{}: stat", path);
    if (!S_ISREG(st.st_mode)) return fail(EBADMSG, "{}: is not a regular file", path);
    if (st.st_size == 0) return fail(EBADMSG, "{}: is empty", path);
    THAW_TRY(file.identity, identify(fd->get()));
    THAW_CHECK(set_nonblocking(fd->get(), false));
    file.fd = std::move(*fd);
    return file;
}

// Gives the open file a second name inside the image; false when the file system cannot.
bool link_into(const SourceFile& source, int directory, const char* name) {
    const auto handle = fmt::format("/proc/self/fd/{}", source.fd.get());
    return linkat(AT_FDCWD, handle.c_str(), directory, name, AT_SYMLINK_FOLLOW) == 0;
}

Result<> take(
    SourceFile& source, int directory, const char* name, bool move, const Store::Progress& progress
) {
    if (move && link_into(source, directory, name)) {
        source.linked = true;
        return {};
    }
    THAW_TRY(
        const auto target,
        open_at(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, kFileMode)
    );
    auto copied = copy_file(source.fd.get(), target.get(), progress);
    if (!copied)
        return std::unexpected(std::move(copied).error().with_context("copy " + source.path));
    return {};
}

// A moved source loses its old name once the image is there; not if it is another file by now.
void drop_source(const SourceFile& source, Store::Warnings* warnings) {
    struct stat st{};
    const bool same = lstat(source.path.c_str(), &st) == 0 && st.st_dev == source.identity.device &&
                      st.st_ino == source.identity.inode;
    if (same && unlink(source.path.c_str()) == 0) return;
    if (warnings != nullptr)
        warnings->push_back(fmt::format("{}: could not be removed", source.path));
}

Result<Manifest> import_files(
    int root, const std::string& root_path, const std::string& name, const Store::Source& source,
    const Store::Progress& progress, Store::Warnings* warnings
) {
    THAW_TRY(auto state, open_source(source.state_path));
    THAW_TRY(auto memory, open_source(source.memory_path));
    THAW_CHECK(check_memory_size(memory.identity.size, source.manifest.page_size));
    THAW_TRY(auto staging, Staging::create(root, root_path, name));

    // Two passes over the memory, told as one: the copy, then the hashes.
    const auto passes = [&](std::uint64_t base) {
        return [&, base](std::uint64_t done, std::uint64_t total) {
            return !progress || progress(base + done, 2 * total);
        };
    };
    const auto unseen = [&](std::uint64_t, std::uint64_t) {
        return !progress || progress(0, 2 * memory.identity.size);
    };
    THAW_CHECK(take(state, staging.directory(), kDefaultStateFile, source.move, unseen));
    THAW_CHECK(take(memory, staging.directory(), kDefaultMemoryFile, source.move, passes(0)));
    auto given = source.manifest;
    given.state.name = kDefaultStateFile;
    given.memory.name = kDefaultMemoryFile;
    THAW_TRY(
        auto manifest,
        seal_directory(staging.directory(), given, passes(memory.identity.size), warnings)
    );
    // A source that was written to meanwhile gives an image of no moment in time.
    for (const auto* file : {&state, &memory}) {
        THAW_TRY(const auto now, identify(file->fd.get()));
        if (now != file->identity)
            return fail(EBUSY, "{}: changed while it was imported", file->path);
    }
    THAW_CHECK(staging.publish(name));
    if (source.move) {
        drop_source(state, warnings);
        drop_source(memory, warnings);
    }
    return manifest;
}

} // namespace

Result<Manifest> Store::import(
    std::string_view name, const Source& source, const Progress& progress, Warnings* warnings
) const {
    THAW_CHECK(check_image_name(name));
    THAW_CHECK(check_settings(source.manifest));
    THAW_TRY(const auto root, open_root());
    THAW_CHECK(clean_leftovers(root.get(), root_));
    const std::string entry(name);
    struct stat st{};
    if (fstatat(root.get(), entry.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0)
        return fail(EEXIST, "image '{}' exists", name);
    auto manifest = import_files(root.get(), root_, entry, source, progress, warnings);
    if (!manifest)
        return std::unexpected(
            std::move(manifest).error().with_context(fmt::format("import image '{}'", name))
        );
    return manifest;
}

} // namespace thaw::image
