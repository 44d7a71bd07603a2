// SPDX-License-Identifier: MIT
#include "records.hpp"

#include "config/json.hpp"
#include "core/file.hpp"
#include "core/names.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <limits>

namespace thaw::restore {

namespace {

constexpr std::uint64_t kVersion = 1;
constexpr mode_t kMode = 0600;
constexpr std::string_view kRecordSuffix = ".json";
constexpr std::string_view kTicketSuffix = ".ticket";
constexpr const char* kLastJobFile = "last-job";
constexpr const char* kPolicyFile = "policy";
constexpr std::uint64_t kMaxUid = std::numeric_limits<std::uint32_t>::max();

nlohmann::json job_to_json(const JobRecord& job) {
    return {
        {"id", job.id},           {"kind", kJobKindNames.name(job.kind)},
        {"uid", job.uid},         {"state", kJobStateNames.name(job.state)},
        {"started", job.started},
    };
}

Result<std::uint32_t> number_of(const JsonView& object, std::string_view member) {
    THAW_TRY(const auto number, object.unsigned_number(member));
    if (number > kMaxUid) return fail(EBADMSG, "{}: too large", member);
    return static_cast<std::uint32_t>(number);
}

Result<JobRecord> parse_job(const JsonView& object) {
    JobRecord job;
    THAW_TRY(job.id, number_of(object, "id"));
    THAW_TRY(job.kind, object.word("kind", kJobKindNames));
    THAW_TRY(job.state, object.word("state", kJobStateNames));
    THAW_TRY(job.uid, number_of(object, "uid"));
    THAW_TRY(job.started, object.unsigned_number("started"));
    if (is_final(job.state)) return fail(EBADMSG, "job.state: a finished job is on no record");
    return job;
}

Result<Made> parse_made(const JsonView& object) {
    Made made;
    THAW_TRY(made.unit, object.boolean("unit"));
    THAW_TRY(made.session, object.boolean("session"));
    THAW_TRY(made.drop_in, object.boolean("drop_in"));
    THAW_TRY(made.ticket, object.boolean("ticket"));
    THAW_TRY(made.shares, object.boolean_or("shares", false)); // absent before there were any
    THAW_TRY(made.rootfs, object.boolean_or("rootfs", false)); // as well
    THAW_TRY(made.base, object.boolean_or("base", false));
    THAW_TRY(made.rootfs_device, object.boolean_or("rootfs_device", false));
    return made;
}

} // namespace

std::string format_record(const Record& record) {
    nlohmann::json value{
        {"version", kVersion},
        {"name", record.name},
        {"image", record.image},
        {"owner", record.owner},
        {"type", kInstanceTypeNames.name(record.type)},
        {"state", kInstanceStateNames.name(record.state)},
        {"backend", kBackendNames.name(record.backend)},
        {"backend_reason", record.backend_reason},
        {"restored_by", record.restored_by},
        {"started", record.started},
        {"session", record.session},
        {"written", record.written},
        {"paused_for", record.paused_for},
        {"made",
         {{"unit", record.made.unit},
          {"session", record.made.session},
          {"drop_in", record.made.drop_in},
          {"ticket", record.made.ticket},
          {"shares", record.made.shares},
          {"rootfs", record.made.rootfs},
          {"base", record.made.base},
          {"rootfs_device", record.made.rootfs_device}}},
    };
    if (record.job) value["job"] = job_to_json(*record.job);
    return json_dump(value) + "\n";
}

Result<Record> parse_record(std::string_view text) {
    THAW_TRY(const auto document, JsonDocument::parse(text));
    const auto root = document.root();
    THAW_TRY(const auto version, root.unsigned_number("version"));
    if (version != kVersion) return fail(EPROTONOSUPPORT, "record of version {}", version);
    Record record;
    THAW_TRY(record.name, root.string("name"));
    THAW_TRY(record.image, root.string("image"));
    THAW_TRY(record.owner, number_of(root, "owner"));
    // Earlier versions knew one type only.
    if (root.has("type")) {
        THAW_TRY(record.type, root.word("type", kInstanceTypeNames));
    }
    THAW_TRY(record.state, root.word("state", kInstanceStateNames));
    THAW_TRY(record.backend, root.word("backend", kBackendNames));
    THAW_TRY(record.backend_reason, root.string("backend_reason"));
    THAW_TRY(record.restored_by, number_of(root, "restored_by"));
    THAW_TRY(record.started, root.unsigned_number("started"));
    THAW_TRY(record.session, root.string("session"));
    THAW_TRY(record.paused_for, root.string_or("paused_for", ""));
    if (root.has("written")) {
        THAW_TRY(record.written, root.strings("written"));
    }
    THAW_TRY(const auto made, root.at("made"));
    THAW_TRY(record.made, parse_made(made));
    if (root.has("job")) {
        THAW_TRY(const auto job, root.at("job"));
        THAW_TRY(record.job, parse_job(job));
    }
    if (!is_valid_vm_name(record.name)) return fail(EBADMSG, "name: not a VM's name");
    if (!record.image.empty() && !is_valid_image_name(record.image))
        return fail(EBADMSG, "image: not an image's name");
    return record;
}

Result<> RecordStore::save(const Record& record) const {
    return write_file_atomic(
        fmt::format("{}/{}{}", directory_, record.name, kRecordSuffix), format_record(record), kMode
    );
}

Result<> RecordStore::remove(const std::string& name) const {
    return remove_if_exists(fmt::format("{}/{}{}", directory_, name, kRecordSuffix));
}

Result<RecordStore::Content> RecordStore::load() const {
    Content content;
    std::error_code code;
    std::filesystem::directory_iterator entries(directory_, code);
    if (code) return fail_errno(code.value(), "list {}", directory_);
    for (const std::filesystem::directory_iterator end; entries != end; entries.increment(code)) {
        const auto file = entries->path().filename().string();
        if (file.ends_with(kTicketSuffix)) {
            auto vm =
                unit_unescape(std::string_view(file).substr(0, file.size() - kTicketSuffix.size()));
            if (vm && is_valid_vm_name(*vm)) content.tickets.push_back(std::move(*vm));
        }
        if (!file.ends_with(kRecordSuffix)) continue;
        const auto name = file.substr(0, file.size() - kRecordSuffix.size());
        auto text = read_file(entries->path().string());
        auto record = text ? parse_record(*text) : std::unexpected(std::move(text).error());
        if (record && record->name != name)
            record = fail(EBADMSG, "it speaks of \"{}\"", record->name);
        if (record)
            content.records.push_back(std::move(*record));
        else
            content.damaged.push_back({name, record.error().message()});
    }
    if (code) return fail_errno(code.value(), "list {}", directory_);
    return content;
}

Result<std::uint32_t> RecordStore::last_job_id() const {
    auto text = read_file(fmt::format("{}/{}", directory_, kLastJobFile));
    if (!text && text.error().code() == ENOENT) return 0;
    if (!text) return std::unexpected(std::move(text).error());
    THAW_TRY(const auto id, parse_unsigned(trim(*text), kMaxUid));
    return static_cast<std::uint32_t>(id);
}

Result<> RecordStore::save_last_job_id(std::uint32_t id) const {
    return write_file_atomic(
        fmt::format("{}/{}", directory_, kLastJobFile), fmt::format("{}\n", id), kMode
    );
}

Result<std::optional<Policy>> RecordStore::load_policy(const Policy& fallback) const {
    auto text = read_file(fmt::format("{}/{}", directory_, kPolicyFile));
    if (!text && text.error().code() == ENOENT) return std::nullopt;
    if (!text) return std::unexpected(std::move(text).error());
    THAW_TRY(auto policy, parse_policy(*text, fallback));
    return policy;
}

Result<> RecordStore::save_policy(const Policy& policy) const {
    return write_file_atomic(
        fmt::format("{}/{}", directory_, kPolicyFile), format_policy(policy), kMode
    );
}

} // namespace thaw::restore
