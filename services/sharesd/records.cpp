// SPDX-License-Identifier: MIT
#include "records.hpp"

#include "api/shares1.hpp"
#include "config/json.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "reserve/hint.hpp"
#include "unit_files.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace thaw::sharesd {

namespace {

constexpr std::uint64_t kVersion = 1;
constexpr mode_t kMode = 0600;
constexpr std::string_view kSuffix = ".json";

nlohmann::json options_to_json(const ShareOptions& options) {
    return {
        {"read_only", options.read_only},
        {"vm_unit", options.vm_unit},
        {"handles", kHandleModeNames.name(options.handles)},
        {"on_low_limit", kOnLowLimitNames.name(options.on_low_limit)},
        {"memory_high", options.memory_high},
        {"cache", kCacheModeNames.name(options.cache)},
        {"sandbox", kSandboxNames.name(options.sandbox)},
        {"user", options.user},
        {"socket_user", options.socket_user},
        {"socket_group", options.socket_group},
        {"translate_uid", options.translate_uid},
        {"translate_gid", options.translate_gid},
        {"xattr", options.xattr},
        {"posix_acl", options.posix_acl},
        {"allow_mmap", options.allow_mmap},
        {"writeback", options.writeback},
        {"offer_tag", options.offer_tag},
        {"threads", options.threads},
        {"reconnectable", options.reconnectable},
        {"on_loss", kOnLossNames.name(options.on_loss)},
    };
}

Result<ShareOptions> parse_options(const JsonView& object) {
    ShareOptions options;
    THAW_TRY(options.read_only, object.boolean("read_only"));
    THAW_TRY(options.vm_unit, object.string("vm_unit"));
    THAW_TRY(options.handles, object.word("handles", kHandleModeNames));
    THAW_TRY(options.on_low_limit, object.word("on_low_limit", kOnLowLimitNames));
    THAW_TRY(options.memory_high, object.unsigned_number("memory_high"));
    THAW_TRY(options.cache, object.word("cache", kCacheModeNames));
    THAW_TRY(options.sandbox, object.word("sandbox", kSandboxNames));
    THAW_TRY(options.user, object.string("user"));
    THAW_TRY(options.socket_user, object.string("socket_user"));
    THAW_TRY(options.socket_group, object.string("socket_group"));
    THAW_TRY(options.translate_uid, object.strings("translate_uid"));
    THAW_TRY(options.translate_gid, object.strings("translate_gid"));
    THAW_TRY(options.xattr, object.boolean("xattr"));
    THAW_TRY(options.posix_acl, object.boolean("posix_acl"));
    THAW_TRY(options.allow_mmap, object.boolean("allow_mmap"));
    THAW_TRY(options.writeback, object.boolean("writeback"));
    THAW_TRY(options.offer_tag, object.boolean("offer_tag"));
    THAW_TRY(options.threads, object.unsigned_number("threads"));
    THAW_TRY(options.reconnectable, object.boolean("reconnectable"));
    THAW_TRY(options.on_loss, object.word("on_loss", kOnLossNames));
    return options;
}

// An error name lives as long as the program: only names that we know come back.
std::string known_error(const std::string& name) {
    for (const auto& known : shares1::kErrors)
        if (known.name == name) return name;
    return {};
}

Result<> parse_life(const JsonView& root, Record& record) {
    THAW_TRY(record.ready, root.boolean("ready"));
    THAW_TRY(record.vm_seen, root.boolean("vm_seen"));
    THAW_TRY(record.connected, root.boolean("connected"));
    THAW_TRY(record.restarts, root.unsigned_number("restarts"));
    THAW_TRY(record.exit, root.word("exit", kExitClassNames));
    THAW_TRY(const auto name, root.string("error_name"));
    record.error_name = known_error(name);
    THAW_TRY(record.error_message, root.string("error_message"));
    THAW_TRY(record.lost, root.boolean("lost"));
    THAW_TRY(record.ending, root.boolean("ending"));
    return {};
}

} // namespace

std::string format_record(const Record& record) {
    const nlohmann::json value{
        {"version", kVersion},
        {"vm", record.vm},
        {"tag", record.tag},
        {"source", record.source},
        {"program", record.program},
        {"owner", record.owner},
        {"started", record.started},
        {"dialect", kDialectNames.name(record.dialect)},
        {"handles", kHandleModeNames.name(record.handles)},
        {"handles_reason", record.handles_reason},
        {"limit", record.limit},
        {"options", options_to_json(record.options)},
        {"ready", record.ready},
        {"vm_seen", record.vm_seen},
        {"connected", record.connected},
        {"restarts", record.restarts},
        {"exit", kExitClassNames.name(record.exit)},
        {"error_name", record.error_name},
        {"error_message", record.error_message},
        {"lost", record.lost},
        {"ending", record.ending},
    };
    return json_dump(value) + "\n";
}

Result<Record> parse_record(std::string_view text) {
    THAW_TRY(const auto document, JsonDocument::parse(text));
    const auto root = document.root();
    THAW_TRY(const auto version, root.unsigned_number("version"));
    if (version != kVersion) return fail(EPROTONOSUPPORT, "record of version {}", version);
    Record record;
    THAW_TRY(record.vm, root.string("vm"));
    THAW_TRY(record.tag, root.string("tag"));
    THAW_TRY(record.source, root.string("source"));
    THAW_TRY(record.program, root.string("program"));
    THAW_TRY(const auto owner, root.unsigned_number("owner"));
    if (owner > UINT32_MAX) return fail(EBADMSG, "owner: too large");
    record.owner = static_cast<std::uint32_t>(owner);
    THAW_TRY(record.started, root.unsigned_number("started"));
    THAW_TRY(record.dialect, root.word("dialect", kDialectNames));
    THAW_TRY(record.handles, root.word("handles", kHandleModeNames));
    THAW_TRY(record.handles_reason, root.string("handles_reason"));
    THAW_TRY(record.limit, root.unsigned_number("limit"));
    THAW_TRY(const auto options, root.at("options"));
    THAW_TRY(record.options, parse_options(options));
    record.options.limit = record.limit;
    THAW_CHECK(parse_life(root, record));
    if (!is_valid_share_name(record.vm, record.tag))
        return fail(EBADMSG, "vm, tag: not the names of a share");
    return record;
}

std::string RecordStore::path_of(const std::string& vm, const std::string& tag) const {
    return fmt::format("{}/{}{}", directory_, share_id(vm, tag), kSuffix);
}

Result<> RecordStore::save(const Record& record) const {
    const auto path = path_of(record.vm, record.tag);
    auto written = write_file_atomic(path, format_record(record), kMode);
    if (!written) return std::unexpected(reserve::with_release_hint(written.error(), path));
    return {};
}

Result<> RecordStore::remove(const std::string& vm, const std::string& tag) const {
    return remove_if_exists(path_of(vm, tag));
}

Result<RecordStore::Content> RecordStore::load() const {
    Content content;
    std::error_code code;
    std::filesystem::directory_iterator entries(directory_, code);
    if (code) return fail_errno(code.value(), "list {}", directory_);
    for (const std::filesystem::directory_iterator end; entries != end; entries.increment(code)) {
        const auto file = entries->path().filename().string();
        if (!file.ends_with(kSuffix)) continue;
        auto text = read_file(entries->path().string());
        auto record = text ? parse_record(*text) : std::unexpected(std::move(text).error());
        if (record && path_of(record->vm, record->tag) != entries->path().string())
            record = fail(EBADMSG, "it speaks of {}", share_id(record->vm, record->tag));
        if (record)
            content.records.push_back(std::move(*record));
        else
            content.damaged.push_back({entries->path().string(), record.error().message()});
    }
    if (code) return fail_errno(code.value(), "list {}", directory_);
    return content;
}

} // namespace thaw::sharesd
