// SPDX-License-Identifier: MIT
#include "core/names.hpp"

#include "core/text.hpp"

#include <xxhash.h>

#include <algorithm>

namespace thaw {

namespace {

constexpr std::string_view kVmmUnitPrefix = "thaw-firecracker@";
constexpr std::string_view kServiceSuffix = ".service";
constexpr std::size_t kMaxVmName = 63;
constexpr std::size_t kMaxImageName = 128;
constexpr std::size_t kMaxFileName = 255; // NAME_MAX
constexpr std::string_view kDropInSuffix = ".d";
constexpr std::string_view kShareUnitPrefix = "thaw-virtiofsd@";
constexpr std::size_t kMaxTag = 36;
constexpr std::size_t kMaxSocketPath = 107; // sun_path without the final NUL

std::string share_unit(std::string_view vm, std::string_view tag, std::string_view suffix) {
    return fmt::format("{}{}:{}{}", kShareUnitPrefix, unit_escape(vm), unit_escape(tag), suffix);
}

constexpr bool is_alphanumeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// What systemd leaves alone inside a unit name.
constexpr bool needs_no_escape(char c) {
    return is_alphanumeric(c) || c == ':' || c == '_' || c == '.';
}

} // namespace

bool is_valid_vm_name(std::string_view name) {
    if (name.empty() || name.size() > kMaxVmName || !is_alphanumeric(name.front())) return false;
    const auto allowed = [](char c) { return is_alphanumeric(c) || c == '-'; };
    if (!std::all_of(name.begin(), name.end(), allowed)) return false;
    // Each dash takes four characters in the unit's name, whose drop-in folder is a file name.
    return vmm_unit(name).size() + kDropInSuffix.size() <= kMaxFileName;
}

bool is_valid_image_name(std::string_view name) {
    if (name.empty() || name.size() > kMaxImageName || !is_alphanumeric(name.front())) return false;
    return std::all_of(name.begin(), name.end(), [](char c) {
        return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
    });
}

bool is_valid_share_tag(std::string_view tag) {
    if (tag.empty() || tag.size() > kMaxTag) return false;
    if (!is_alphanumeric(tag.front()) && tag.front() != '_') return false;
    return std::all_of(tag.begin(), tag.end(), [](char c) {
        return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
    });
}

bool is_valid_share_name(std::string_view vm, std::string_view tag) {
    return is_valid_vm_name(vm) && is_valid_share_tag(tag) &&
           share_service(vm, tag).size() + kDropInSuffix.size() <= kMaxFileName;
}

std::string unit_escape(std::string_view name) {
    std::string escaped;
    for (std::size_t i = 0; i < name.size(); ++i) {
        const char c = name[i];
        if (c == '/')
            escaped += '-';
        else if (needs_no_escape(c) && !(i == 0 && c == '.')) // a hidden file's name otherwise
            escaped += c;
        else
            escaped += "\\x" + hex_encode(&c, 1);
    }
    return escaped;
}

Result<std::string> unit_unescape(std::string_view escaped) {
    std::string name;
    for (std::size_t i = 0; i < escaped.size(); ++i) {
        const char c = escaped[i];
        if (needs_no_escape(c) || c == '-') {
            name += c == '-' ? '/' : c;
            continue;
        }
        const auto byte = escaped.substr(i).starts_with("\\x") && i + 4 <= escaped.size()
                              ? hex_decode(escaped.substr(i + 2, 2))
                              : std::nullopt;
        if (!byte || byte->front() == '\0')
            return fail(EINVAL, "\"{}\": bad escape at position {}", escaped, i);
        name += *byte;
        i += 3;
    }
    return name;
}

std::string vmm_unit(std::string_view vm) {
    return fmt::format("{}{}{}", kVmmUnitPrefix, unit_escape(vm), kServiceSuffix);
}

std::string vm_slice(std::string_view vm) {
    return fmt::format("{}{}.slice", kUnitPrefix, unit_escape(vm));
}

Result<std::string> vm_of_vmm_unit(std::string_view unit) {
    if (unit.starts_with(kVmmUnitPrefix) && unit.ends_with(kServiceSuffix) &&
        unit.size() > kVmmUnitPrefix.size() + kServiceSuffix.size()) {
        std::string_view instance = unit.substr(kVmmUnitPrefix.size());
        instance.remove_suffix(kServiceSuffix.size());
        auto vm = unit_unescape(instance);
        // Written back: two spellings of one name would be two units for one VM.
        if (vm && is_valid_vm_name(*vm) && vmm_unit(*vm) == unit) return vm;
    }
    return fail(EINVAL, "\"{}\" is not the unit of a VM", unit);
}

std::string share_service(std::string_view vm, std::string_view tag) {
    return share_unit(vm, tag, kServiceSuffix);
}

std::string share_socket_unit(std::string_view vm, std::string_view tag) {
    return share_unit(vm, tag, ".socket");
}

namespace paths {

std::string vm_directory(std::string_view vm) {
    return fmt::format("{}/{}", kVmRuntime, vm);
}

std::string vm_api_socket(std::string_view vm) {
    return vm_directory(vm) + "/api.sock";
}

std::string pager_directory(std::string_view vm) {
    return fmt::format("{}/{}", kPagerVms, vm);
}

std::string pager_socket(std::string_view vm) {
    return pager_directory(vm) + "/uffd.sock";
}

std::string restore_ticket(std::string_view vm) {
    return fmt::format("{}/{}.ticket", kRestoreRuntime, unit_escape(vm));
}

std::string share_directory(std::string_view vm) {
    return fmt::format("{}/{}", kShares, vm);
}

std::string share_socket(std::string_view vm, std::string_view tag) {
    auto plain = fmt::format("{}/{}.sock", share_directory(vm), tag);
    if (plain.size() <= kMaxSocketPath) return plain;
    // No tag begins with a dot: nobody can ask for another's.
    return fmt::format(
        "{}/.{:016x}.sock", share_directory(vm), XXH3_64bits(tag.data(), tag.size())
    );
}

std::string vm_drop_in(std::string_view vm) {
    return fmt::format("{}/{}{}/50-thaw.conf", kRuntimeUnits, vmm_unit(vm), kDropInSuffix);
}

} // namespace paths

} // namespace thaw
