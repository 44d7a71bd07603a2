// SPDX-License-Identifier: MIT

#include "image/store.hpp"

#include "image/listing.hpp"
#include "image/seal.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace thaw::image {

namespace {

constexpr std::size_t kManifestLimit = 1 << 20;
constexpr std::uint64_t kStatBlock = 512; // the unit of st_blocks

template <class T>
Result<T> in_image(std::string_view name, Result<T> result) {
    if (result) return result;
    return std::unexpected(std::move(result).error().with_context(fmt::format("image '{}'", name)));
}

} // namespace

Result<Fd> open_image_directory(int root, const std::string& name) {
    auto directory = open_beneath(root, name, O_RDONLY | O_DIRECTORY);
    if (directory) return directory;
    switch (directory.error().code()) {
    case ENOENT:
        return fail(ENOENT, "no such image");
    case ENOTDIR:
    case ELOOP: {
        // O_DIRECTORY answers ENOTDIR for a symlink too.
        struct stat st{};
        if (fstatat(root, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
            return fail(ELOOP, "is a symbolic link, which an image must not be");
        return fail(EBADMSG, "is not a directory");
    }
    default:
        return directory;
    }
}

Result<Manifest> load_manifest(int directory) {
    auto fd = open_regular(directory, kManifestFile);
    if (!fd && fd.error().code() == ENOENT)
        return fail(EBADMSG, "not sealed: it has no {}", kManifestFile);
    if (!fd) return std::unexpected(std::move(fd).error());
    auto text = read_fd(fd->get(), kManifestLimit);
    if (!text) return std::unexpected(std::move(text).error().with_context(kManifestFile));
    return parse_manifest(*text);
}

namespace {

// Opens one file of a sealed image; ESTALE when it cannot be the sealed one.
Result<Fd> open_record(int directory, const FileRecord& record) {
    auto fd = open_regular(directory, record.name);
    if (!fd && fd.error().code() == ENOENT) return fail(ESTALE, "{}: is missing", record.name);
    if (!fd) return fd;
    THAW_TRY(const auto size, size_of(fd->get()));
    if (size != record.size)
        return fail(
            ESTALE, "{}: has {} bytes, sealed with {} ({})", record.name, size, record.size,
            size < record.size ? "truncated" : "replaced"
        );
    return fd;
}

Result<> check_record_digest(int fd, const FileRecord& record) {
    THAW_TRY(const auto digest, digest_file(fd));
    if (digest != record.digest)
        return fail(ESTALE, "{}: content is not the sealed one", record.name);
    return {};
}

std::unexpected<Error> refuse_remote(std::string_view name) {
    return fail_named(
        kErrorImageIsRemote, EREMOTE, "the memory of image '{}' is remote: pull it first", name
    );
}

// An image below another one must be the very one that the other was made over.
Result<Manifest>
open_base(int root, const BaseImage& base, const Manifest& above, BaseLayer& layer) {
    auto directory = open_image_directory(root, base.name);
    if (!directory && directory.error().code() == ENOENT)
        return fail(ESTALE, "its base, image '{}', is missing", base.name);
    if (!directory) return std::unexpected(std::move(directory).error());
    THAW_TRY(auto manifest, load_manifest(directory->get()));
    if (manifest.id != base.id)
        return fail(
            ESTALE, "its base, image '{}', is another one now: {} where it was made over {}",
            base.name, format_id(manifest.id), format_id(base.id)
        );
    if (manifest.memory_size != above.memory_size || manifest.page_size != above.page_size)
        return fail(EBADMSG, "its base, image '{}', has memory of another size", base.name);
    if (manifest.source) return refuse_remote(base.name);
    layer = {.name = base.name, .id = base.id, .memory = Fd()};
    THAW_TRY(layer.memory, open_record(directory->get(), manifest.memory));
    return manifest;
}

Result<> open_layers(int root, OpenImage& image) {
    const auto& own = image.manifest;
    THAW_TRY(image.layers, open_record(image.directory.get(), own.layers));
    THAW_TRY(image.layer_table, LayerTable::load(image.layers.get(), own.id));
    const auto ids = image.layer_table->ids();
    if (image.layer_table->page_count() != own.memory_size / kPageSize4K)
        return fail(EBADMSG, "layers: made for another memory size");
    Manifest above = own;
    while (above.base && image.bases.size() < kMaxLayers) {
        BaseLayer layer;
        THAW_TRY(auto below, open_base(root, *above.base, above, layer));
        image.bases.push_back(std::move(layer));
        above = std::move(below);
    }
    bool same = image.bases.size() + 1 == ids.size();
    for (std::size_t i = 0; same && i < image.bases.size(); ++i)
        same = image.bases[i].id == ids[i + 1];
    if (!same) return fail(EBADMSG, "layers: names other images than those below it");
    return {};
}

// Everything but the digests.
Result<OpenImage> open_files(int root, std::string_view name) {
    OpenImage image;
    image.name = name;
    THAW_TRY(image.directory, open_image_directory(root, image.name));
    THAW_TRY(image.manifest, load_manifest(image.directory.get()));
    const auto& manifest = image.manifest;
    THAW_TRY(image.state, open_record(image.directory.get(), manifest.state));
    if (!manifest.source) {
        THAW_TRY(image.memory, open_record(image.directory.get(), manifest.memory));
    }
    THAW_TRY(image.memory_map, open_record(image.directory.get(), manifest.memory_map));
    if (manifest.rootfs) {
        const auto& rootfs = *manifest.rootfs;
        THAW_TRY(image.rootfs_map, open_record(image.directory.get(), rootfs.map));
        if (!manifest.source) {
            THAW_TRY(image.rootfs, open_record(image.directory.get(), rootfs.file));
        }
    }
    // What cannot be opened, a symbolic link among others, is as good as not there.
    if (auto working_set = open_regular(image.directory.get(), kWorkingSetFile))
        image.working_set = std::move(*working_set);
    if (manifest.base) THAW_CHECK(open_layers(root, image));
    return image;
}

Result<OpenImage> open_checked(int root, std::string_view name) {
    THAW_TRY(auto image, open_files(root, name));
    THAW_CHECK(check_record_digest(image.state.get(), image.manifest.state));
    THAW_CHECK(check_record_digest(image.memory_map.get(), image.manifest.memory_map));
    if (image.manifest.base)
        THAW_CHECK(check_record_digest(image.layers.get(), image.manifest.layers));
    if (image.manifest.rootfs)
        THAW_CHECK(check_record_digest(image.rootfs_map.get(), image.manifest.rootfs->map));
    return image;
}

Result<Manifest> quick_manifest(int root, std::string_view name) {
    THAW_TRY(auto image, open_files(root, name));
    return std::move(image.manifest);
}

std::uint64_t disk_bytes(int root, const std::string& name) {
    const auto directory = open_beneath(root, name, O_RDONLY | O_DIRECTORY);
    if (!directory) return 0;
    const auto entries = list_directory(directory->get());
    if (!entries) return 0;
    std::uint64_t sum = 0;
    for (const auto& entry : *entries) {
        struct stat st{};
        if (fstatat(directory->get(), entry.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0)
            sum += static_cast<std::uint64_t>(st.st_blocks) * kStatBlock;
    }
    return sum;
}

} // namespace

Result<Fd> Store::open_root() const {
    auto root = open_file(root_, O_RDONLY | O_DIRECTORY);
    if (!root) return std::unexpected(std::move(root).error().with_context("image root"));
    return root;
}

Result<OpenImage> open_image(int root, std::string_view name, Store::Remote remote) {
    auto image = open_checked(root, name);
    if (image && image->manifest.source && remote == Store::Remote::Refuse)
        return refuse_remote(name);
    return in_image(name, std::move(image));
}

Result<OpenImage> Store::open(std::string_view name, Remote remote) const {
    THAW_CHECK(check_image_name(name));
    THAW_TRY(const auto root, open_root());
    return open_image(root.get(), name, remote);
}

Result<std::vector<Store::Entry>> Store::list() const {
    THAW_TRY(const auto root, open_root());
    THAW_TRY(const auto names, list_directory(root.get()));
    std::vector<Entry> images;
    for (const auto& name : names) {
        if (name.starts_with('.')) continue; // temporaries, lost+found's kind
        auto named = check_image_name(name);
        images.push_back({
            name,
            named ? quick_manifest(root.get(), name) : std::unexpected(std::move(named).error()),
            disk_bytes(root.get(), name),
        });
    }
    return images;
}

} // namespace thaw::image
