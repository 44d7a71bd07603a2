// SPDX-License-Identifier: MIT
#include "dialect.hpp"

#include "api/shares1.hpp"
#include "config/json.hpp"

#include <algorithm>

namespace thaw::sharesd {

namespace {

// The Rust daemon's own reserve: 509 memory slots, 100 for itself, one a thread.
constexpr std::uint64_t kRustReserve = 609;
constexpr std::uint64_t kRustOwn = 18;
constexpr std::uint64_t kCOwn = 16;

std::unexpected<Error> unsupported(std::string_view what) {
    return fail_named(
        shares1::error::kOptionUnsupported, EOPNOTSUPP, "this virtiofsd (dialect c) has no {}", what
    );
}

Result<> check_c(const ShareOptions& options, HandleMode handles) {
    if (handles != HandleMode::Never) return unsupported("file handles");
    if (options.sandbox == Sandbox::None)
        return unsupported("Sandbox=none, which a share that is not root's needs");
    if (!options.translate_uid.empty() || !options.translate_gid.empty())
        return unsupported("translation of ids");
    if (options.cache == CacheMode::Metadata) return unsupported("Cache=metadata");
    if (options.allow_mmap) return unsupported("AllowMmap");
    if (options.offer_tag) return unsupported("OfferTag");
    return {};
}

std::vector<std::string> c_command(const std::string& program, const ShareOptions& options) {
    const std::string cache = options.cache == CacheMode::Never
                                  ? "none"
                                  : std::string(kCacheModeNames.name(options.cache));
    std::vector<std::string> words{
        program,
        "-f",
        fmt::format("--fd={}", kListenFd),
        // The unit's limit, and nothing else.
        "--rlimit-nofile=0",
        fmt::format("--thread-pool-size={}", options.threads),
        "-o",
        fmt::format("source={}", kSharedDirectory),
        "-o",
        fmt::format("cache={}", cache),
        "-o",
        fmt::format("sandbox={}", kSandboxNames.name(options.sandbox)),
        "-o",
        "announce_submounts",
    };
    const auto option = [&words](bool wanted, const char* word) {
        if (!wanted) return;
        words.emplace_back("-o");
        words.emplace_back(word);
    };
    option(options.xattr || options.posix_acl, "xattr");
    option(options.posix_acl, "posix_acl");
    option(options.writeback, "writeback");
    return words;
}

std::vector<std::string> rust_command(
    const std::string& program, Dialect dialect, const std::string& tag,
    const ShareOptions& options, HandleMode handles
) {
    std::vector<std::string> words{
        program,
        fmt::format("--fd={}", kListenFd),
        fmt::format("--shared-dir={}", kSharedDirectory),
        "--rlimit-nofile=0",
        fmt::format("--thread-pool-size={}", options.threads),
        fmt::format("--cache={}", kCacheModeNames.name(options.cache)),
        fmt::format("--sandbox={}", kSandboxNames.name(options.sandbox)),
        fmt::format("--inode-file-handles={}", kHandleModeNames.name(handles)),
    };
    if (options.offer_tag) words.push_back("--tag=" + tag);
    if (options.read_only) words.emplace_back("--readonly");
    if (options.xattr) words.emplace_back("--xattr");
    if (options.posix_acl)
        words.emplace_back(dialect == Dialect::RustNext ? "--posix-acl=always" : "--posix-acl");
    if (options.allow_mmap) words.emplace_back("--allow-mmap");
    if (options.writeback) words.emplace_back("--writeback");
    for (const auto& map : options.translate_uid)
        words.push_back("--translate-uid=" + map);
    for (const auto& map : options.translate_gid)
        words.push_back("--translate-gid=" + map);
    return words;
}

} // namespace

Result<Dialect> parse_capabilities(std::string_view json) {
    THAW_TRY(const auto document, JsonDocument::parse(json));
    const auto root = document.root();
    THAW_TRY(const auto type, root.string("type"));
    if (type != "fs") return fail(EBADMSG, "it is a backend of type \"{}\"", type);
    std::vector<std::string> features;
    if (root.has("features")) {
        THAW_TRY(features, root.strings("features"));
    }
    const auto has = [&features](std::string_view feature) {
        return std::ranges::find(features, feature) != features.end();
    };
    if (!has("separate-options")) return Dialect::C;
    return has("posix-acl-negotiation-mode") ? Dialect::RustNext : Dialect::Rust;
}

std::uint64_t kept_back(Dialect dialect, std::uint64_t threads) {
    return dialect == Dialect::C ? kCOwn : kRustReserve + std::max<std::uint64_t>(threads, 1);
}

std::uint64_t own_descriptors(Dialect dialect) {
    return dialect == Dialect::C ? kCOwn : kRustOwn;
}

bool notices_raised_limit(Dialect dialect) {
    return dialect == Dialect::C;
}

Result<std::vector<std::string>> command_line(
    const std::string& program, Dialect dialect, const std::string& tag,
    const ShareOptions& options, HandleMode handles
) {
    THAW_INVARIANT(handles != HandleMode::Auto);
    if (dialect != Dialect::C) return rust_command(program, dialect, tag, options, handles);
    THAW_CHECK(check_c(options, handles));
    return c_command(program, options);
}

} // namespace thaw::sharesd
