// SPDX-License-Identifier: MIT

#include "image/copy.hpp"
#include "image/seal.hpp"
#include "image/staging.hpp"
#include "image/store.hpp"

#include <fcntl.h>
#include <sys/file.h>
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

Result<Fd> open_path(const std::string& path) {
    auto fd = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (!fd && fd.error().code() == ELOOP)
        return fail(ELOOP, "{}: is a symbolic link; name the file itself", path);
    return fd;
}

// A descriptor (borrowed) in place of the path where there is one.
Result<SourceFile> open_source(const std::string& path, int borrowed, const char* what) {
    SourceFile file{.path = borrowed < 0 ? path : what};
    auto fd = borrowed < 0 ? open_path(path)
                           : open_file(fmt::format("/proc/self/fd/{}", borrowed), O_RDONLY);
    if (!fd) return std::unexpected(std::move(fd).error());
    struct stat st{};
    if (fstat(fd->get(), &st) < 0) return fail_errno(errno, "{}: stat", file.path);
    if (!S_ISREG(st.st_mode)) return fail(EBADMSG, "{}: is not a regular file", file.path);
    if (st.st_size == 0) return fail(EBADMSG, "{}: is empty", file.path);
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

struct SourceFiles {
    SourceFile state;
    SourceFile memory;
    std::optional<SourceFile> rootfs;

    std::uint64_t rootfs_size() const { return rootfs ? rootfs->identity.size : 0; }
    std::vector<const SourceFile*> all() const {
        std::vector<const SourceFile*> files{&state, &memory};
        if (rootfs) files.push_back(&*rootfs);
        return files;
    }
};

Result<SourceFiles> open_sources(const Store::Source& source) {
    SourceFiles files;
    THAW_TRY(files.state, open_source(source.state_path, source.state_fd, "the state"));
    THAW_TRY(files.memory, open_source(source.memory_path, source.memory_fd, "the memory"));
    THAW_CHECK(check_memory_size(files.memory.identity.size, source.manifest.page_size));
    if (source.rootfs_path.empty()) return files;
    if (!source.base.empty())
        return fail(EBADMSG, "a difference has no root file system of its own");
    THAW_TRY(auto rootfs, open_source(source.rootfs_path, -1, "the root file system"));
    if (auto size = check_rootfs_size(rootfs.identity.size); !size)
        return std::unexpected(std::move(size).error().with_context(rootfs.path));
    files.rootfs = std::move(rootfs);
    return files;
}

// The image below, held against its removal for as long as `lock` lives.
struct Base {
    OpenImage image;
    Fd lock;
};

Result<std::optional<Base>> open_base(int root, const Store::Source& source) {
    if (source.base.empty()) return std::optional<Base>();
    THAW_CHECK(check_image_name(source.base));
    Base base;
    THAW_TRY(base.lock, open_image_directory(root, source.base));
    // Shared: several differences may be made over it at once.
    if (flock(base.lock.get(), LOCK_SH | LOCK_NB) < 0)
        return fail(EBUSY, "image '{}': another operation works on it", source.base);
    THAW_TRY(base.image, open_image(root, source.base));
    const auto& manifest = base.image.manifest; // open_image() has refused a remote one
    if (source.base_id && *source.base_id != manifest.id)
        return fail(
            ESTALE, "image '{}' is another one now: {} where {} is meant", source.base,
            format_id(manifest.id), format_id(*source.base_id)
        );
    if (manifest.page_size != source.manifest.page_size)
        return fail(
            EBADMSG, "the base has pages of {} bytes, not {}", manifest.page_size,
            source.manifest.page_size
        );
    if (source.present.pages() != manifest.memory_size / kPageSize4K)
        return fail(
            EBADMSG, "the pages to take are of {} pages, the base has {}", source.present.pages(),
            manifest.memory_size / kPageSize4K
        );
    if (base.image.bases.size() + 2 > kMaxLayers)
        return fail(
            EOVERFLOW, "image '{}' has {} layers already, more than {} are not read", source.base,
            base.image.bases.size() + 1, kMaxLayers
        );
    return std::optional<Base>(std::move(base));
}

// The memory file of a difference, empty and as long as the guest's memory.
Result<Fd> make_layer_file(int directory, std::uint64_t size) {
    THAW_TRY(
        auto target,
        open_at(directory, kDefaultMemoryFile, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, kFileMode)
    );
    if (ftruncate(target.get(), static_cast<off_t>(size)) < 0)
        return fail_errno(errno, "size the memory file");
    return target;
}

// Of an image that comes from elsewhere: whether it is that one still.
Result<> check_digests(const Store::Source& source, const Manifest& manifest) {
    if (!source.state_digest.empty() && source.state_digest != manifest.state.digest)
        return fail(ESTALE, "the state is not the one of the image that was exported");
    if (!source.map_digest.empty() && source.map_digest != manifest.memory_map.digest)
        return fail(ESTALE, "the memory over this base is not the one that was exported");
    return {};
}

Result<Manifest> import_files(
    int root, const std::string& root_path, const std::string& name, const Store::Source& source,
    const Store::Progress& progress, Store::Warnings* warnings
) {
    THAW_TRY(auto files, open_sources(source));
    auto& [state, memory, rootfs] = files;
    THAW_TRY(const auto base, open_base(root, source));
    if (base && memory.identity.size != base->image.manifest.memory_size)
        return fail(
            EBADMSG, "{}: {} bytes, the base's memory has {}", memory.path, memory.identity.size,
            base->image.manifest.memory_size
        );
    THAW_TRY(auto staging, Staging::create(root, root_path, name));

    // Two passes over memory and root file system, told as one: the copy, then the hashes.
    const auto once = memory.identity.size + files.rootfs_size();
    const auto pass = [&](std::uint64_t before) { return part_of(progress, before, 2 * once); };
    const auto unseen = [&](std::uint64_t, std::uint64_t) {
        return !progress || progress(0, 2 * once);
    };
    THAW_CHECK(take(state, staging.directory(), kDefaultStateFile, source.move, unseen));
    auto given = source.manifest;
    given.state.name = kDefaultStateFile;
    given.memory.name = kDefaultMemoryFile;
    std::optional<RootfsRecord> record;
    if (rootfs) record.emplace().file.name = kRootfsFile;
    given.rootfs = std::move(record);
    const auto seal = [&](const LayerSource* layer) {
        return seal_directory(staging.directory(), given, pass(once), warnings, layer);
    };
    Result<Manifest> manifest = std::unexpected(Error(EIO, "not sealed"));
    if (base) {
        THAW_TRY(const auto target, make_layer_file(staging.directory(), memory.identity.size));
        const LayerSource layer{base->image, source.present, memory.fd.get(), target.get()};
        manifest = seal(&layer);
    } else {
        THAW_CHECK(take(memory, staging.directory(), kDefaultMemoryFile, source.move, pass(0)));
        if (rootfs) {
            const auto rest = pass(memory.identity.size);
            THAW_CHECK(take(*rootfs, staging.directory(), kRootfsFile, source.move, rest));
        }
        manifest = seal(nullptr);
    }
    if (!manifest) return manifest;
    THAW_CHECK(check_digests(source, *manifest));
    // A source that was written to meanwhile gives an image of no moment in time.
    for (const auto* file : files.all()) {
        THAW_TRY(const auto now, identify(file->fd.get()));
        if (now != file->identity)
            return fail(EBUSY, "{}: changed while it was imported", file->path);
    }
    THAW_CHECK(staging.publish(name));
    if (source.move)
        for (const auto* file : files.all())
            drop_source(*file, warnings);
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
