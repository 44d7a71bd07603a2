// SPDX-License-Identifier: MIT
// The way back after a restart: shares by their records, leftovers by their drop-ins.
#include "api/shares1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "unit_files.hpp"

#include <filesystem>
#include <set>

namespace thaw::sharesd {

namespace {

constexpr std::string_view kPrefix = "thaw-virtiofsd@";

struct Names {
    std::string vm;
    std::string tag;
};
// Of a drop-in folder, thaw-virtiofsd@VM:TAG.service.d or .socket.d.
std::optional<Names> names_of(std::string_view folder) {
    if (!folder.starts_with(kPrefix)) return std::nullopt;
    folder.remove_prefix(kPrefix.size());
    for (const std::string_view suffix : {".service.d", ".socket.d"}) {
        if (!folder.ends_with(suffix)) continue;
        folder.remove_suffix(suffix.size());
        const auto colon = folder.find(':');
        if (colon == std::string_view::npos) return std::nullopt;
        auto vm = unit_unescape(folder.substr(0, colon));
        auto tag = unit_unescape(folder.substr(colon + 1));
        if (vm && tag && is_valid_share_name(*vm, *tag))
            return Names{std::move(*vm), std::move(*tag)};
    }
    return std::nullopt;
}

} // namespace

void Manager::load() {
    auto content = records_.load();
    if (!content) {
        log_error("{}", content.error().message());
        return;
    }
    for (const auto& damaged : content->damaged) {
        log_error("removing {}, which cannot be read: {}", damaged.file, damaged.why);
        // Its units are leftovers now; what it says is lost either way.
        if (auto removed = remove_if_exists(damaged.file); !removed)
            log_warning("ignoring: {}", removed.error().message());
    }
    for (auto& record : content->records)
        adopt(std::move(record));
    clean_leftovers();
}

void Manager::adopt(Record record) {
    auto share = std::make_unique<Share>(context_, std::move(record), requests_);
    auto& added = *share;
    shares_.emplace(added.id(), std::move(share));
    by_service_.emplace(added.service(), &added);
    added.adopt([this, &added](const Result<>& adopted) {
        if (adopted) announce(added);
    });
}

// Settings without a record: nobody knows any more what they were for.
void Manager::clean_leftovers() {
    std::error_code code;
    std::filesystem::directory_iterator entries(loaded_.config.unit_directory, code);
    if (code) return;
    std::set<std::pair<std::string, std::string>> found;
    for (const std::filesystem::directory_iterator end; entries != end; entries.increment(code)) {
        if (code) break;
        const auto names = names_of(entries->path().filename().string());
        if (names && !shares_.contains(share_id(names->vm, names->tag)))
            found.emplace(names->vm, names->tag);
    }
    for (const auto& [vm, tag] : found)
        clean(vm, tag);
}

// A guest keeps what it works with, whatever we have lost: the daemon ends with its client.
void Manager::clean(const std::string& vm, const std::string& tag) {
    const auto id = share_id(vm, tag);
    if (!connections_.is_connected(paths::share_socket(vm, tag))) return clean_now(vm, tag);
    log_event(
        LogLevel::Warning, message_id::kShareLeftover,
        {{"THAW_INSTANCE", vm}, {"THAW_SHARE", id}, {"OBJECT_SYSTEMD_UNIT", share_service(vm, tag)}
        },
        "{}: left over without a record, but a VMM is connected: it stays, uncounted, until that "
        "one goes",
        id
    );
    leftovers_[id].use =
        systemd_.watch_unit(share_service(vm, tag), [this, vm, tag](const UnitState& unit) {
            if (unit.is_gone()) clean_now(vm, tag);
        });
}

void Manager::clean_now(const std::string& vm, const std::string& tag) {
    const auto id = share_id(vm, tag);
    log_event(
        LogLevel::Warning, message_id::kShareLeftover, {{"THAW_INSTANCE", vm}, {"THAW_SHARE", id}},
        "{}: left over without a record, removed", id
    );
    auto& leftover = leftovers_[id];
    leftover.teardown =
        std::make_unique<ShareTeardown>(context_, vm, tag, [this, id](const Result<>& gone) {
            if (!gone) log_error("{}: {}", id, gone.error().message());
            leftovers_.erase(id);
        });
    leftover.use.reset();
}

} // namespace thaw::sharesd
