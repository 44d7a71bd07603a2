// SPDX-License-Identifier: MIT

#include "share_request.hpp"

#include "core/text.hpp"

#include <filesystem>

namespace thaw::ctl {

namespace {

// One option of a basic type.
Result<> append_text(BusMessage& message, const char* key, const std::string& value) {
    if (value.empty()) return {};
    return message.append("{sv}", key, "s", value.c_str());
}

Result<> append_flag(BusMessage& message, const char* key, bool value) {
    if (!value) return {};
    return message.append("{sv}", key, "b", 1);
}

Result<> append_list(BusMessage& message, const char* key, const std::vector<std::string>& values) {
    if (values.empty()) return {};
    THAW_CHECK(message.open_container('e', "sv"));
    THAW_CHECK(message.append("s", key));
    THAW_CHECK(message.open_container('v', "as"));
    THAW_CHECK(message.open_container('a', "s"));
    for (const auto& value : values)
        THAW_CHECK(message.append("s", value.c_str()));
    THAW_CHECK(message.close_container());
    THAW_CHECK(message.close_container());
    return message.close_container();
}

Result<> append_numbers(BusMessage& message, const ShareArguments& arguments) {
    if (!arguments.limit.empty()) {
        THAW_TRY(const auto limit, parse_unsigned(arguments.limit));
        THAW_CHECK(message.append("{sv}", "LimitNOFILE", "t", limit));
    }
    if (!arguments.memory_high.empty()) {
        THAW_TRY(const auto size, parse_size(arguments.memory_high));
        THAW_CHECK(message.append("{sv}", "MemoryHigh", "t", size));
    }
    if (arguments.threads.empty()) return {};
    THAW_TRY(const auto threads, parse_unsigned(arguments.threads, UINT32_MAX));
    return message.append("{sv}", "ThreadPoolSize", "u", static_cast<std::uint32_t>(threads));
}

Result<> append_options(BusMessage& message, const ShareArguments& arguments) {
    const std::pair<const char*, const std::string*> texts[] = {
        {"Unit", &arguments.unit},
        {"InodeFileHandles", &arguments.file_handles},
        {"OnLowLimit", &arguments.on_low_limit},
        {"Cache", &arguments.cache},
        {"Sandbox", &arguments.sandbox},
        {"User", &arguments.user},
        {"SocketUser", &arguments.socket_user},
        {"SocketGroup", &arguments.socket_group},
        {"OnLoss", &arguments.on_loss},
    };
    const std::pair<const char*, bool> flags[] = {
        {"ReadOnly", arguments.read_only},  {"Xattr", arguments.xattr},
        {"PosixAcl", arguments.posix_acl},  {"AllowMmap", arguments.allow_mmap},
        {"Writeback", arguments.writeback}, {"Reconnectable", arguments.reconnectable},
        {"OfferTag", arguments.offer_tag},
    };
    for (const auto& [key, value] : texts)
        THAW_CHECK(append_text(message, key, *value));
    for (const auto& [key, value] : flags)
        THAW_CHECK(append_flag(message, key, value));
    THAW_CHECK(append_numbers(message, arguments));
    THAW_CHECK(append_list(message, "TranslateUid", arguments.translate_uid));
    return append_list(message, "TranslateGid", arguments.translate_gid);
}

} // namespace

Result<> append_share_request(BusMessage& message, const ShareArguments& arguments) {
    THAW_TRY(const auto source, absolute_source(arguments.source));
    THAW_CHECK(message.append("sss", arguments.name.c_str(), arguments.tag.c_str(), source.c_str())
    );
    THAW_CHECK(message.open_container('a', "{sv}"));
    THAW_CHECK(append_options(message, arguments));
    THAW_CHECK(message.close_container());
    return message.append("t", std::uint64_t{0});
}

Result<std::string> absolute_source(const std::string& path) {
    if (path.empty()) return fail(EINVAL, "the source is empty");
    if (path.starts_with('/')) return path;
    std::error_code problem;
    const auto absolute = std::filesystem::absolute(path, problem);
    if (problem) return fail_errno(problem.value(), "the current directory");
    auto text = absolute.lexically_normal().string();
    while (text.size() > 1 && text.ends_with('/'))
        text.pop_back();
    return text;
}

} // namespace thaw::ctl
