// SPDX-License-Identifier: MIT
// The status of an overlay as JSON.
#include "config/json.hpp"
#include "core/text.hpp"
#include "protocol/rootfs_control.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace thaw::protocol {

namespace {

using namespace std::string_view_literals;

constexpr EnumTable kBaseKinds{std::array{
    std::pair{BaseKind::None, "none"sv},
    std::pair{BaseKind::File, "file"sv},
    std::pair{BaseKind::Content, "content"sv},
}};

// Every plain counter of the status, for both directions.
constexpr std::array<std::pair<std::string_view, std::uint64_t RootfsStatus::*>, 17> kCounters{{
    {"dirty_blocks", &RootfsStatus::dirty_blocks},
    {"dirty_bytes", &RootfsStatus::dirty_bytes},
    {"zero_blocks", &RootfsStatus::zero_blocks},
    {"memory_used", &RootfsStatus::memory_used},
    {"memory_budget", &RootfsStatus::memory_budget},
    {"disk_used", &RootfsStatus::disk_used},
    {"disk_budget", &RootfsStatus::disk_budget},
    {"epoch", &RootfsStatus::epoch},
    {"clients", &RootfsStatus::clients},
    {"reads", &RootfsStatus::reads},
    {"read_bytes", &RootfsStatus::read_bytes},
    {"writes", &RootfsStatus::writes},
    {"written_bytes", &RootfsStatus::written_bytes},
    {"flushes", &RootfsStatus::flushes},
    {"failed_reads", &RootfsStatus::failed_reads},
    {"failed_writes", &RootfsStatus::failed_writes},
    {"spilled_bytes", &RootfsStatus::spilled_bytes},
}};

Result<BaseIdentity> parse_base(const JsonView& view) {
    BaseIdentity base;
    THAW_TRY(base.kind, view.word("kind", kBaseKinds));
    THAW_TRY(base.size, view.unsigned_or("size", 0));
    THAW_TRY(const auto id, view.string("id"));
    const auto bytes = hex_decode(id);
    if (!bytes || bytes->size() != base.id.size()) return fail(EBADMSG, "base.id: not 16 bytes");
    std::memcpy(base.id.data(), bytes->data(), base.id.size());
    return base;
}

// Words for people, on a terminal: no control characters.
bool is_plain(std::string_view text) {
    return is_valid_utf8(text) && std::ranges::none_of(text, [](char c) {
               return static_cast<unsigned char>(c) < ' ' || c == 0x7f;
           });
}

} // namespace

std::string format_rootfs_status(const RootfsStatus& status) {
    nlohmann::json json{
        {"name", status.name},
        {"size", status.geometry.size},
        {"block_size", status.geometry.block_size},
        {"base",
         {{"kind", kBaseKinds.name(status.base.kind)},
          {"size", status.base.size},
          {"id", hex_encode(status.base.id.data(), status.base.id.size())}}},
        {"base_path", status.base_path},
        {"base_image", status.base_image},
        {"durable", status.durable},
        {"point_held", status.point_held},
    };
    for (const auto& [name, member] : kCounters)
        json[std::string(name)] = status.*member;
    return json_dump(json);
}

Result<RootfsStatus> parse_rootfs_status(std::string_view json) {
    THAW_TRY(const auto document, JsonDocument::parse(json));
    const JsonView root = document.root();
    RootfsStatus status;
    THAW_TRY(status.name, root.string("name"));
    THAW_TRY(status.geometry.size, root.unsigned_number("size"));
    THAW_TRY(const auto block_size, root.unsigned_number("block_size"));
    if (block_size > kMaxBlockSize) return fail(EBADMSG, "block_size: out of range");
    status.geometry.block_size = static_cast<std::uint32_t>(block_size);
    THAW_CHECK(check_geometry(status.geometry));
    THAW_TRY(const auto base, root.at("base"));
    THAW_TRY(status.base, parse_base(base));
    THAW_TRY(status.base_path, root.string_or("base_path", ""));
    THAW_TRY(status.base_image, root.string_or("base_image", ""));
    if (!is_plain(status.name) || !is_plain(status.base_path) || !is_plain(status.base_image))
        return fail(EBADMSG, "rootfs status: control characters in a name");
    THAW_TRY(status.durable, root.boolean_or("durable", false));
    THAW_TRY(status.point_held, root.boolean_or("point_held", false));
    for (const auto& [name, member] : kCounters) {
        THAW_TRY(status.*member, root.unsigned_or(name, 0));
    }
    return status;
}

} // namespace thaw::protocol
