// SPDX-License-Identifier: MIT
#include "config/ini.hpp"

#include "core/text.hpp"

#include <algorithm>

namespace thaw {

namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// Reads one text; holds where it is.
class Parser {
public:
    Parser(const std::string& file, const std::vector<ConfigKey>& keys)
        : file_(file), keys_(keys) {}

    std::vector<ConfigWarning> parse(std::string_view text);

private:
    void take_physical_line(std::string_view line);
    void take_line(std::string_view line);
    void take_section(std::string_view line);
    void take_assignment(std::string_view line);
    void warn(std::string text);

    const std::string& file_;
    const std::vector<ConfigKey>& keys_;
    std::vector<ConfigWarning> warnings_;
    unsigned line_number_ = 0;
    unsigned reported_line_ = 0; // where the logical line began
    std::string pending_;        // a line that goes on in the next one
    bool continued_ = false;
    std::string section_;
    enum class Section { None, Known, Ignored } section_kind_ = Section::None;
};

bool is_comment(std::string_view line) {
    return line.starts_with('#') || line.starts_with(';');
}

void Parser::warn(std::string text) {
    warnings_.push_back({.file = file_, .line = reported_line_, .text = std::move(text)});
}

std::vector<ConfigWarning> Parser::parse(std::string_view text) {
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        ++line_number_;
        take_physical_line(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (continued_) take_line(pending_); // the file ended in a backslash
    return std::move(warnings_);
}

void Parser::take_physical_line(std::string_view line) {
    const std::string_view content = trim(line);
    if (is_comment(content)) return; // also between the parts of a continued line
    if (!continued_) {
        reported_line_ = line_number_;
        pending_.clear();
    }
    // A backslash before the line's end, blanks after it forgiven: a blank stands for both.
    continued_ = content.ends_with('\\');
    pending_ += continued_ ? content.substr(0, content.size() - 1) : content;
    if (continued_)
        pending_ += ' ';
    else
        take_line(pending_);
}

void Parser::take_line(std::string_view line) {
    line = trim(line);
    if (line.empty()) return;
    // Values end up on the bus and in the journal's text.
    if (line.find('\0') != std::string_view::npos || !is_valid_utf8(line))
        return warn("the line is not UTF-8 text, ignored");
    if (line.starts_with('['))
        take_section(line);
    else
        take_assignment(line);
}

void Parser::take_section(std::string_view line) {
    section_kind_ = Section::Ignored;
    if (line.size() < 3 || !line.ends_with(']'))
        return warn(fmt::format("bad section header \"{}\", its lines are ignored", line));
    section_ = line.substr(1, line.size() - 2);
    if (section_.starts_with("X-")) return; // systemd's convention for other programs' sections
    const auto same = [this](const ConfigKey& key) { return key.section == section_; };
    if (std::none_of(keys_.begin(), keys_.end(), same))
        return warn(fmt::format("unknown section \"{}\", ignored", section_));
    section_kind_ = Section::Known;
}

void Parser::take_assignment(std::string_view line) {
    const auto equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0)
        return warn(fmt::format("\"{}\" is not an assignment, ignored", line));
    const auto name = trim(line.substr(0, equals));
    const auto value = trim(line.substr(equals + 1));
    if (section_kind_ == Section::None)
        return warn(fmt::format("{}= stands before any section, ignored", name));
    if (section_kind_ == Section::Ignored) return;
    const auto key = std::find_if(keys_.begin(), keys_.end(), [&](const ConfigKey& candidate) {
        return candidate.section == section_ && candidate.key == name;
    });
    if (key == keys_.end())
        return warn(fmt::format("unknown key {}= in section \"{}\", ignored", name, section_));
    if (const auto parsed = key->parse(value); !parsed)
        warn(fmt::format("{}=: {}, ignored", name, parsed.error().message()));
}

// The usual parse(): an empty value brings the default back, a bad one changes nothing.
template <class T, class Parse>
std::function<Result<>(std::string_view)> scalar(T* target, Parse parse) {
    return [target, initial = *target, parse](std::string_view value) -> Result<> {
        if (value.empty()) {
            *target = initial;
            return {};
        }
        THAW_TRY(*target, parse(value));
        return {};
    };
}

} // namespace

std::vector<ConfigWarning>
parse_config(std::string_view text, const std::string& file, const std::vector<ConfigKey>& keys) {
    return Parser(file, keys).parse(text);
}

std::function<Result<>(std::string_view)> config_string(std::string* target) {
    return scalar(target, [](std::string_view value) -> Result<std::string> {
        return std::string(value);
    });
}

std::function<Result<>(std::string_view)> config_bool(bool* target) {
    return scalar(target, parse_bool);
}

std::function<Result<>(std::string_view)> config_size(std::uint64_t* target) {
    return scalar(target, parse_size);
}

std::function<Result<>(std::string_view)> config_timespan(std::uint64_t* target) {
    return scalar(target, parse_timespan);
}

std::function<Result<>(std::string_view)> config_positive_timespan(std::uint64_t* target) {
    return scalar(target, [](std::string_view value) -> Result<std::uint64_t> {
        THAW_TRY(const std::uint64_t time, parse_timespan(value));
        if (time == 0) return fail(ERANGE, "expected a time above 0");
        return time;
    });
}

std::function<Result<>(std::string_view)> config_absolute_path(std::string* target) {
    return scalar(target, [](std::string_view value) -> Result<std::string> {
        if (!value.starts_with('/')) return fail(EINVAL, "expected an absolute path");
        return std::string(value);
    });
}

std::function<Result<>(std::string_view)>
config_unsigned(std::uint64_t* target, std::uint64_t minimum, std::uint64_t maximum) {
    return scalar(target, [minimum, maximum](std::string_view value) -> Result<std::uint64_t> {
        THAW_TRY(const std::uint64_t number, parse_unsigned(value, maximum));
        if (number < minimum) return fail(ERANGE, "\"{}\" is smaller than {}", value, minimum);
        return number;
    });
}

std::function<Result<>(std::string_view)> config_words(std::vector<std::string>* target) {
    return [target](std::string_view value) -> Result<> {
        if (value.empty()) target->clear();
        for (auto& word : split_words(value))
            target->push_back(std::move(word));
        return {};
    };
}

std::function<Result<>(std::string_view)> config_absolute_paths(std::vector<std::string>* target) {
    return [target](std::string_view value) -> Result<> {
        const auto words = split_words(value);
        for (const auto& word : words)
            if (!word.starts_with('/')) return fail(EINVAL, "\"{}\" is no absolute path", word);
        if (words.empty()) target->clear();
        target->insert(target->end(), words.begin(), words.end());
        return {};
    };
}

} // namespace thaw
