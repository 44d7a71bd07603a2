// SPDX-License-Identifier: MIT
#pragma once

// Structured logging. Under systemd entries go to the journal with fields; on a terminal, or when
// the journal is not there, to stderr. Messages are for people, fields for machines.
//
//   log_info("{} sessions adopted", n);
//   log_event(LogLevel::Error, message_id::kRestoreFailed,
//             {{"THAW_INSTANCE", name}, {"OBJECT_SYSTEMD_UNIT", unit}}, "{}: {}", name, why);

#include "core/error.hpp"

#include <concepts>
#include <initializer_list>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thaw {

// Values are syslog's.
enum class LogLevel { Error = 3, Warning = 4, Notice = 5, Info = 6, Debug = 7 };

struct LogField {
    std::string key;   // [A-Z][A-Z0-9_]*, no leading underscore
    std::string value; // may hold any bytes
};
using LogFields = std::vector<LogField>;

enum class LogTarget { Auto, Journal, Stderr };

// `identifier` becomes SYSLOG_IDENTIFIER=. Honours $THAW_LOG_LEVEL, $DEBUG_INVOCATION and, for the
// target, $JOURNAL_STREAM.
void log_init(std::string_view identifier);
std::string_view log_identifier();
LogLevel log_level();
void set_log_level(LogLevel level);
LogTarget log_target();
void set_log_target(LogTarget target);
std::optional<LogLevel> log_level_from_string(std::string_view name); // "info", "err", "debug"...
std::string_view log_level_name(LogLevel level);

// The one function that writes. message_id may be empty.
void log_write(
    LogLevel level, std::string_view message_id, const LogFields& fields, std::string_view message,
    const std::source_location& where
);

// A format string that remembers where the call stands (CODE_FILE=, CODE_LINE=, CODE_FUNC=).
template <class... Args>
struct LogFormat {
    fmt::format_string<Args...> text;
    std::source_location where;
    template <class S>
        requires std::convertible_to<const S&, std::string_view>
    consteval LogFormat(const S& s, std::source_location w = std::source_location::current())
        : text(s), where(w) {}
};

template <class... Args>
void log_event(
    LogLevel level, std::string_view message_id, const LogFields& fields,
    LogFormat<std::type_identity_t<Args>...> format, Args&&... args
) {
    if (level > log_level()) return;
    log_write(
        level, message_id, fields, fmt::format(format.text, std::forward<Args>(args)...),
        format.where
    );
}

// NOLINTBEGIN(bugprone-macro-parentheses): the name of a function cannot stand in parentheses.
#define THAW_DEFINE_LOG(name, level)                                                               \
    template <class... Args>                                                                       \
    void name(LogFormat<std::type_identity_t<Args>...> format, Args&&... args) {                   \
        if (level > log_level()) return;                                                           \
        log_write(                                                                                 \
            level, {}, {}, fmt::format(format.text, std::forward<Args>(args)...), format.where     \
        );                                                                                         \
    }                                                                                              \
    template <class... Args>                                                                       \
    void name(                                                                                     \
        const LogFields& fields, LogFormat<std::type_identity_t<Args>...> format, Args&&... args   \
    ) {                                                                                            \
        if (level > log_level()) return;                                                           \
        log_write(                                                                                 \
            level, {}, fields, fmt::format(format.text, std::forward<Args>(args)...), format.where \
        );                                                                                         \
    }
// NOLINTEND(bugprone-macro-parentheses)
THAW_DEFINE_LOG(log_error, LogLevel::Error)
THAW_DEFINE_LOG(log_warning, LogLevel::Warning)
THAW_DEFINE_LOG(log_notice, LogLevel::Notice)
THAW_DEFINE_LOG(log_info, LogLevel::Info)
THAW_DEFINE_LOG(log_debug, LogLevel::Debug)
#undef THAW_DEFINE_LOG

} // namespace thaw
