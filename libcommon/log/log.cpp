// SPDX-License-Identifier: MIT
#include "log/log.hpp"

#include "core/enum_table.hpp"
#include "core/file.hpp"
#include "core/text.hpp"
#include "log/journal_backend.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>

namespace thaw {

namespace {

using namespace std::string_view_literals;

std::string g_identifier = "thaw";
std::atomic<LogLevel> g_level = LogLevel::Info;
std::atomic<LogTarget> g_target = LogTarget::Auto;
// What Auto means in this process: looked up by log_init(), as stderr may be replaced later.
std::atomic<LogTarget> g_detected = LogTarget::Stderr;

constexpr EnumTable kLevelNames{std::array{
    std::pair{LogLevel::Error, "err"sv},
    std::pair{LogLevel::Warning, "warning"sv},
    std::pair{LogLevel::Notice, "notice"sv},
    std::pair{LogLevel::Info, "info"sv},
    std::pair{LogLevel::Debug, "debug"sv},
}};

// systemd's words and numbers that have no level of their own here.
constexpr EnumTable kLevelAliases{std::array{
    std::pair{LogLevel::Error, "error"sv},
    std::pair{LogLevel::Error, "crit"sv},
    std::pair{LogLevel::Error, "alert"sv},
    std::pair{LogLevel::Error, "emerg"sv},
    std::pair{LogLevel::Error, "0"sv},
    std::pair{LogLevel::Error, "1"sv},
    std::pair{LogLevel::Error, "2"sv},
    std::pair{LogLevel::Error, "3"sv},
    std::pair{LogLevel::Warning, "warn"sv},
    std::pair{LogLevel::Warning, "4"sv},
    std::pair{LogLevel::Notice, "5"sv},
    std::pair{LogLevel::Info, "6"sv},
    std::pair{LogLevel::Debug, "7"sv},
}};

const char* environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

// $JOURNAL_STREAM is "device:inode" of the stream that systemd gave us. Only when stderr still is
// that very stream (and not a pipe of a wrapper) does the journal see what we write.
bool stderr_is_journal() {
    const std::string_view stream = environment("JOURNAL_STREAM");
    const auto colon = stream.find(':');
    struct stat st = {};
    if (colon == std::string_view::npos || fstat(STDERR_FILENO, &st) < 0) return false;
    const auto device = parse_unsigned(stream.substr(0, colon));
    const auto inode = parse_unsigned(stream.substr(colon + 1));
    return device && inode && *device == st.st_dev && *inode == st.st_ino;
}

bool is_valid_key(std::string_view key) {
    constexpr std::size_t kLongest = 64; // journald drops longer ones
    constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    return !key.empty() && key.size() <= kLongest &&
           kLetters.find(key.front()) != std::string_view::npos &&
           key.find_first_not_of(kAllowed) == std::string_view::npos;
}

// A second MESSAGE= or PRIORITY= would make the entry say two things.
bool is_own_key(std::string_view key) {
    constexpr std::array kOwn = {"MESSAGE"sv,   "MESSAGE_ID"sv, "PRIORITY"sv, "SYSLOG_IDENTIFIER"sv,
                                 "CODE_FILE"sv, "CODE_LINE"sv,  "CODE_FUNC"sv};
    return std::find(kOwn.begin(), kOwn.end(), key) != kOwn.end();
}

bool is_usable(const LogField& field) {
    return is_valid_key(field.key) && !is_own_key(field.key);
}

bool write_journal(
    LogLevel level, std::string_view message_id, const LogFields& fields, std::string_view message,
    const std::source_location& where
) {
    std::vector<std::string> entries = {
        fmt::format("MESSAGE={}", message),
        fmt::format("PRIORITY={}", static_cast<int>(level)),
        fmt::format("SYSLOG_IDENTIFIER={}", g_identifier),
        fmt::format("CODE_FILE={}", where.file_name()),
        fmt::format("CODE_LINE={}", where.line()),
        fmt::format("CODE_FUNC={}", where.function_name()),
    };
    if (!message_id.empty()) entries.push_back(fmt::format("MESSAGE_ID={}", message_id));
    for (const auto& field : fields)
        if (is_usable(field)) entries.push_back(field.key + "=" + field.value);
    return send_to_journal(entries);
}

std::string_view colour(LogLevel level) {
    switch (level) {
    case LogLevel::Error:
        return "\x1b[1;31m";
    case LogLevel::Warning:
        return "\x1b[1;33m";
    case LogLevel::Notice:
        return "\x1b[1m";
    case LogLevel::Info:
        return "";
    case LogLevel::Debug:
        return "\x1b[2m";
    }
    return "";
}

void write_stderr(LogLevel level, const LogFields& fields, std::string_view message) {
    std::string line = fmt::format("{}: ", g_identifier);
    if (level != LogLevel::Info && level != LogLevel::Notice)
        line += fmt::format("{}: ", level == LogLevel::Error ? "error" : log_level_name(level));
    line += message;
    if (log_level() == LogLevel::Debug)
        for (const auto& field : fields)
            if (is_usable(field)) line += fmt::format(" {}={}", field.key, field.value);
    const bool colourful = isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
    if (colourful && !colour(level).empty()) line = fmt::format("{}{}\x1b[0m", colour(level), line);
    line += '\n';
    [[maybe_unused]] const auto nobody_is_left_to_tell = write_all(STDERR_FILENO, line);
}

} // namespace

void log_init(std::string_view identifier) {
    g_identifier = identifier;
    g_detected = stderr_is_journal() ? LogTarget::Journal : LogTarget::Stderr;
    // systemd sets it for an invocation that an administrator wants to see everything of
    // (RestartMode=debug); it is the fallback, an explicit level wins.
    if (environment("DEBUG_INVOCATION") == "1"sv) set_log_level(LogLevel::Debug);
    if (const auto level = log_level_from_string(environment("THAW_LOG_LEVEL")))
        set_log_level(*level);
}

std::string_view log_identifier() {
    return g_identifier;
}

LogLevel log_level() {
    return g_level;
}

void set_log_level(LogLevel level) {
    g_level = level;
}

LogTarget log_target() {
    return g_target;
}

void set_log_target(LogTarget target) {
    g_target = target;
}

std::optional<LogLevel> log_level_from_string(std::string_view name) {
    if (const auto level = kLevelNames.value(name)) return level;
    return kLevelAliases.value(name);
}

std::string_view log_level_name(LogLevel level) {
    return kLevelNames.name(level);
}

void log_write(
    LogLevel level, std::string_view message_id, const LogFields& fields, std::string_view message,
    const std::source_location& where
) {
    const int saved_errno = errno; // logging between a call and the look at its errno is harmless
    const LogTarget chosen = g_target;
    const LogTarget target = chosen == LogTarget::Auto ? g_detected.load() : chosen;
    if (target != LogTarget::Journal || !write_journal(level, message_id, fields, message, where))
        write_stderr(level, fields, message);
    errno = saved_errno;
}

} // namespace thaw
