// SPDX-License-Identifier: MIT

#include "image/manifest.hpp"

#include "config/json.hpp"
#include "core/names.hpp"
#include "core/text.hpp"
#include "image/manifest_source.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <functional>

namespace thaw::image {

namespace {

// No guest is larger, and sums of sizes below it cannot overflow.
constexpr std::uint64_t kMaxMemory = std::uint64_t{1} << 46;
constexpr std::size_t kMaxPath = 4095;
constexpr std::size_t kMaxSocketName = 107;
constexpr std::size_t kMaxDrives = 64;
constexpr std::size_t kMaxId = 64;
constexpr std::size_t kDigestDigits = 32;
// "rootfs.map thaw\n": any constant but zero would do.
constexpr ImageId kRootfsIdMask{0x72, 0x6f, 0x6f, 0x74, 0x66, 0x73, 0x2e, 0x6d,
                                0x61, 0x70, 0x20, 0x74, 0x68, 0x61, 0x77, 0x0a};

bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

// Paths end up in unit files and VMM requests: nothing unprintable, nothing that climbs.
bool is_safe_path(std::string_view path, std::size_t limit) {
    if (path.empty() || path.size() > limit || path.back() == '/') return false;
    for (const char c : path)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
    std::size_t start = 0;
    while (start <= path.size()) {
        const auto end = std::min(path.find('/', start), path.size());
        const auto part = path.substr(start, end - start);
        if (part == ".." || (part == "." && start != 0)) return false;
        start = end + 1;
    }
    return true;
}

Result<> check_digest(const FileRecord& record, std::string_view what) {
    const bool good =
        record.digest.size() == kDigestDigits && std::ranges::all_of(record.digest, [](char c) {
            return is_alnum(c) && (c < 'A' || c > 'F');
        });
    if (!good || !hex_decode(record.digest))
        return fail(EBADMSG, "files.{}.digest: not {} hex digits", what, kDigestDigits);
    return {};
}

Result<> check_drives(const std::vector<Drive>& drives) {
    if (drives.size() > kMaxDrives) return fail(EBADMSG, "drives: more than {}", kMaxDrives);
    for (std::size_t i = 0; i < drives.size(); i++) {
        const auto& drive = drives[i];
        if (drive.id.empty() || drive.id.size() > kMaxId ||
            !std::ranges::all_of(drive.id, [](char c) {
                return is_alnum(c) || c == '_' || c == '-';
            }))
            return fail(EBADMSG, "drives[{}].id: not a drive name", i);
        if (std::any_of(
                drives.begin(), drives.begin() + static_cast<std::ptrdiff_t>(i),
                [&](const Drive& d) { return d.id == drive.id; }
            ))
            return fail(EBADMSG, "drives[{}].id: '{}' is there twice", i, drive.id);
        if (!is_safe_path(drive.path, kMaxPath))
            return fail(
                EBADMSG,
                "drives[{}].path: not a plain path ('..' and control characters are refused)", i
            );
        if (drive.shared && !drive.read_only)
            return fail(EBADMSG, "drives[{}]: shared but not read-only", i);
    }
    return {};
}

Result<FileRecord> parse_file(const JsonView& files, std::string_view what) {
    THAW_TRY(const auto view, files.at(what));
    FileRecord record;
    THAW_TRY(record.name, view.string("name"));
    THAW_TRY(record.size, view.unsigned_number("size"));
    THAW_TRY(record.digest, view.string("digest"));
    return record;
}

Result<std::vector<Drive>> parse_drives(const JsonView& root) {
    std::vector<Drive> drives;
    if (!root.has("drives")) return drives;
    THAW_TRY(const auto list, root.at("drives"));
    THAW_TRY(const auto elements, list.elements());
    for (const auto& element : elements) {
        Drive drive;
        THAW_TRY(drive.id, element.string("id"));
        THAW_TRY(drive.path, element.string("path"));
        THAW_TRY(drive.read_only, element.boolean_or("read_only", false));
        THAW_TRY(drive.shared, element.boolean_or("shared", false));
        drives.push_back(std::move(drive));
    }
    return drives;
}

Result<> parse_base(const JsonView& root, const JsonView& files, Manifest& manifest) {
    THAW_TRY(const auto view, root.at("base"));
    BaseImage base;
    THAW_TRY(base.name, view.string("name"));
    THAW_TRY(const auto id, view.string("id"));
    THAW_TRY(base.id, parse_id(id));
    manifest.base = std::move(base);
    THAW_TRY(manifest.layers, parse_file(files, "layers"));
    return {};
}

Result<RootfsRecord> parse_rootfs(const JsonView& files) {
    THAW_TRY(const auto view, files.at("rootfs"));
    RootfsRecord rootfs;
    THAW_TRY(rootfs.file, parse_file(view, "file"));
    THAW_TRY(rootfs.map, parse_file(view, "map"));
    return rootfs;
}

Result<Manifest> parse_members(const JsonView& root) {
    Manifest manifest;
    THAW_TRY(const auto id, root.string("id"));
    THAW_TRY(manifest.id, parse_id(id));
    THAW_TRY(manifest.created, root.unsigned_or("created", 0));
    THAW_TRY(manifest.vmm, root.string("vmm"));
    THAW_TRY(manifest.vmm_version, root.string_or("vmm_version", ""));
    THAW_TRY(manifest.memory_size, root.unsigned_number("memory_size"));
    THAW_TRY(manifest.page_size, root.unsigned_number("page_size"));
    THAW_TRY(const auto files, root.at("files"));
    THAW_TRY(manifest.state, parse_file(files, "state"));
    THAW_TRY(manifest.memory, parse_file(files, "memory"));
    THAW_TRY(manifest.memory_map, parse_file(files, "memory_map"));
    if (files.has("rootfs")) {
        THAW_TRY(manifest.rootfs, parse_rootfs(files));
    }
    if (root.has("base")) THAW_CHECK(parse_base(root, files, manifest));
    if (root.has("source")) {
        THAW_TRY(manifest.source, parse_source(root));
    }
    THAW_TRY(manifest.drives, parse_drives(root));
    THAW_TRY(manifest.vsock_path, root.string_or("vsock_path", ""));
    return manifest;
}

Result<> check_base(const BaseImage& base, const Manifest& manifest) {
    if (!is_valid_image_name(base.name))
        return fail(EBADMSG, "base.name: not the name of an image");
    if (base.id == manifest.id) return fail(EBADMSG, "base.id: an image cannot be its own base");
    if (manifest.rootfs) return fail(EBADMSG, "files.rootfs: a difference has none of its own");
    return {};
}

// Names and digests of all files. No two have one name, nor that of a file that is not listed:
// a file that arrives must not take the place of another one.
Result<> check_records(const Manifest& manifest) {
    std::vector files{
        std::pair{std::string_view("state"), &manifest.state},
        std::pair{std::string_view("memory"), &manifest.memory},
        std::pair{std::string_view("memory_map"), &manifest.memory_map},
    };
    if (manifest.base) files.emplace_back("layers", &manifest.layers);
    if (manifest.rootfs) {
        files.emplace_back("rootfs.file", &manifest.rootfs->file);
        files.emplace_back("rootfs.map", &manifest.rootfs->map);
    }
    std::vector<std::string_view> taken{kManifestFile, kAccessLogFile, kWorkingSetFile};
    for (const auto& [what, record] : files) {
        if (!is_valid_image_name(record->name))
            return fail(
                EBADMSG, "files.{}.name: '{}' is not a plain file name inside the image", what,
                record->name
            );
        if (std::ranges::find(taken, record->name) != taken.end())
            return fail(
                EBADMSG, "files.{}.name: another file of the image is '{}'", what, record->name
            );
        taken.push_back(record->name);
        THAW_CHECK(check_digest(*record, what));
    }
    return {};
}

nlohmann::json file_json(const FileRecord& record) {
    return {{"name", record.name}, {"size", record.size}, {"digest", record.digest}};
}

std::uint64_t format_version(const Manifest& manifest) {
    if (manifest.source) return kRemoteFormatVersion;
    return manifest.base ? kDiffFormatVersion : kFormatVersion;
}

} // namespace

std::string format_id(const ImageId& id) {
    return hex_encode(id.data(), id.size());
}

Result<ImageId> parse_id(std::string_view text) {
    const auto bytes = hex_decode(text);
    ImageId id{};
    if (!bytes || bytes->size() != id.size())
        return fail(EBADMSG, "id: not {} hex digits", id.size() * 2);
    std::memcpy(id.data(), bytes->data(), id.size());
    return id;
}

ImageId rootfs_id(const ImageId& image) {
    ImageId id{};
    std::ranges::transform(image, kRootfsIdMask, id.begin(), std::bit_xor());
    return id;
}

Result<std::array<std::uint8_t, 16>> digest_bytes(const FileRecord& record) {
    const auto bytes = hex_decode(record.digest);
    std::array<std::uint8_t, 16> digest{};
    if (!bytes || bytes->size() != digest.size())
        return fail(EBADMSG, "digest of {}: not {} hex digits", record.name, kDigestDigits);
    std::memcpy(digest.data(), bytes->data(), digest.size());
    return digest;
}

Result<> check_settings(const Manifest& manifest) {
    if (manifest.page_size != kPageSize4K && manifest.page_size != kPageSize2M)
        return fail(
            EBADMSG, "page_size: {} is neither {} nor {}", manifest.page_size, kPageSize4K,
            kPageSize2M
        );
    const auto printable = [](char c) { return c > 0x20 && c < 0x7f; };
    if (manifest.vmm.empty() || manifest.vmm.size() > kMaxId ||
        !std::ranges::all_of(manifest.vmm, printable))
        return fail(EBADMSG, "vmm: not a plain word");
    if (manifest.vmm_version.size() > kMaxId ||
        !std::ranges::all_of(manifest.vmm_version, printable))
        return fail(EBADMSG, "vmm_version: not a plain word");
    if (!manifest.vsock_path.empty() && !is_safe_path(manifest.vsock_path, kMaxSocketName))
        return fail(EBADMSG, "vsock_path: not a plain path of at most {} bytes", kMaxSocketName);
    return check_drives(manifest.drives);
}

Result<> check_memory_size(std::uint64_t memory_size, std::uint64_t page_size) {
    if (memory_size == 0) return fail(EBADMSG, "memory_size: the memory file is empty");
    if (memory_size > kMaxMemory) return fail(EBADMSG, "memory_size: {} is too large", memory_size);
    if (memory_size % page_size != 0)
        return fail(
            EBADMSG,
            "memory_size: {} is not a multiple of the page size {} (truncated memory file, or "
            "wrong page size)",
            memory_size, page_size
        );
    return {};
}

Result<> check_rootfs_size(std::uint64_t size) {
    if (size == 0) return fail(EBADMSG, "the root file system is empty");
    if (size > kMaxMemory) return fail(EBADMSG, "a root file system of {} is too large", size);
    if (size % kPageSize4K != 0)
        return fail(
            EBADMSG, "a root file system of {} bytes is not a multiple of {} (truncated?)", size,
            kPageSize4K
        );
    return {};
}

Result<> check_manifest(const Manifest& manifest) {
    THAW_CHECK(check_settings(manifest));
    THAW_CHECK(check_memory_size(manifest.memory_size, manifest.page_size));
    if (manifest.base) THAW_CHECK(check_base(*manifest.base, manifest));
    THAW_CHECK(check_records(manifest));
    if (manifest.rootfs) {
        auto size = check_rootfs_size(manifest.rootfs->file.size);
        if (!size)
            return std::unexpected(std::move(size).error().with_context("files.rootfs.file.size"));
    }
    if (manifest.state.size == 0) return fail(EBADMSG, "files.state.size: empty");
    if (manifest.memory.size != manifest.memory_size)
        return fail(
            EBADMSG, "files.memory.size: {} differs from memory_size {}", manifest.memory.size,
            manifest.memory_size
        );
    return check_source(manifest);
}

Result<Manifest> parse_manifest(std::string_view json) {
    const auto bad = [](const Error& error) {
        return std::unexpected(Error(EBADMSG, "manifest: " + error.message()));
    };
    auto document = JsonDocument::parse(json);
    if (!document) return bad(document.error());
    const auto root = document->root();
    const auto format = root.unsigned_number("format_version");
    if (!format) return bad(format.error());
    if (*format < kFormatVersion || *format > kRemoteFormatVersion)
        return fail(
            EPROTONOSUPPORT, "manifest: format version {} is unknown, this program reads {} to {}",
            *format, kFormatVersion, kRemoteFormatVersion
        );
    auto manifest = parse_members(root);
    if (!manifest) return bad(manifest.error());
    // Who knows only the first version must not take a difference for a whole image, nor look for
    // the memory of a remote one.
    if (format_version(*manifest) != *format)
        return fail(
            EBADMSG, "manifest: format version {} does not fit 'base' and 'source'", *format
        );
    if (auto checked = check_manifest(*manifest); !checked) return bad(checked.error());
    return manifest;
}

std::string format_manifest(const Manifest& manifest) {
    auto drives = nlohmann::json::array();
    for (const auto& drive : manifest.drives)
        drives.push_back(
            {{"id", drive.id},
             {"path", drive.path},
             {"read_only", drive.read_only},
             {"shared", drive.shared}}
        );
    nlohmann::json value = {
        {"format_version", format_version(manifest)},
        {"id", format_id(manifest.id)},
        {"created", manifest.created},
        {"vmm", manifest.vmm},
        {"vmm_version", manifest.vmm_version},
        {"memory_size", manifest.memory_size},
        {"page_size", manifest.page_size},
        {"files",
         {{"state", file_json(manifest.state)},
          {"memory", file_json(manifest.memory)},
          {"memory_map", file_json(manifest.memory_map)}}},
        {"drives", drives},
        {"vsock_path", manifest.vsock_path},
    };
    if (manifest.base) {
        value["base"] = {{"name", manifest.base->name}, {"id", format_id(manifest.base->id)}};
        value["files"]["layers"] = file_json(manifest.layers);
    }
    if (const auto& rootfs = manifest.rootfs)
        value["files"]["rootfs"] = {
            {"file", file_json(rootfs->file)}, {"map", file_json(rootfs->map)}
        };
    if (manifest.source) value["source"] = source_json(*manifest.source);
    return json_dump(value, 4) + "\n";
}

} // namespace thaw::image
