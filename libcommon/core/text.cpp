// SPDX-License-Identifier: MIT
#include "core/text.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <ctime>

namespace thaw {

namespace {

constexpr std::string_view kBlanks = " \t\n\r";

constexpr bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// "12", "1.5", ".5" at the front of a text.
struct Decimal {
    std::string_view whole;
    std::string_view fraction;
};

std::string_view take_digits(std::string_view& text) {
    std::size_t n = 0;
    while (n < text.size() && is_digit(text[n]))
        ++n;
    const auto digits = text.substr(0, n);
    text.remove_prefix(n);
    return digits;
}

std::optional<Decimal> take_decimal(std::string_view& text) {
    Decimal number;
    number.whole = take_digits(text);
    if (text.starts_with('.')) {
        text.remove_prefix(1);
        number.fraction = take_digits(text);
        if (number.fraction.empty()) return std::nullopt; // "1." is more likely a mistake
    }
    if (number.whole.empty() && number.fraction.empty()) return std::nullopt;
    return number;
}

// number * unit, rounded down, exactly; nothing when it does not fit. unit <= 2^60.
std::optional<std::uint64_t> scale(const Decimal& number, std::uint64_t unit) {
    std::uint64_t result = 0;
    for (const char c : number.whole) {
        if (__builtin_mul_overflow(result, std::uint64_t{10}, &result)) return std::nullopt;
        if (__builtin_add_overflow(result, static_cast<std::uint64_t>(c - '0'), &result))
            return std::nullopt;
    }
    if (__builtin_mul_overflow(result, unit, &result)) return std::nullopt;
    // From the last digit to the first: rounding down at every step equals rounding down once.
    std::uint64_t part = 0;
    for (auto digit = number.fraction.rbegin(); digit != number.fraction.rend(); ++digit)
        part = (part + static_cast<std::uint64_t>(*digit - '0') * unit) / 10;
    if (__builtin_add_overflow(result, part, &result)) return std::nullopt;
    return result;
}

std::optional<std::uint64_t> size_unit(std::string_view suffix) {
    if (suffix.empty() || suffix == "B") return 1;
    constexpr std::string_view kLetters = "KMGTPE";
    const auto index = kLetters.find(suffix.front());
    const auto rest = suffix.substr(1);
    if (index == std::string_view::npos || (!rest.empty() && rest != "B" && rest != "iB"))
        return std::nullopt;
    return std::uint64_t{1} << (10 * (index + 1));
}

constexpr Microseconds kMinute = 60 * kUsecPerSec;
constexpr Microseconds kHour = 60 * kMinute;
constexpr Microseconds kDay = 24 * kHour;
constexpr Microseconds kWeek = 7 * kDay;
constexpr Microseconds kYear = 31557600 * kUsecPerSec; // 365.25 days, as systemd.time(7) has it
constexpr Microseconds kMonth = kYear / 12;

struct TimeUnit {
    std::string_view name;
    Microseconds value;
};

constexpr std::array kTimeUnits = {
    TimeUnit{"seconds", kUsecPerSec},
    TimeUnit{"second", kUsecPerSec},
    TimeUnit{"sec", kUsecPerSec},
    TimeUnit{"s", kUsecPerSec},
    TimeUnit{"minutes", kMinute},
    TimeUnit{"minute", kMinute},
    TimeUnit{"min", kMinute},
    TimeUnit{"m", kMinute},
    TimeUnit{"hours", kHour},
    TimeUnit{"hour", kHour},
    TimeUnit{"hr", kHour},
    TimeUnit{"h", kHour},
    TimeUnit{"days", kDay},
    TimeUnit{"day", kDay},
    TimeUnit{"d", kDay},
    TimeUnit{"weeks", kWeek},
    TimeUnit{"week", kWeek},
    TimeUnit{"w", kWeek},
    TimeUnit{"months", kMonth},
    TimeUnit{"month", kMonth},
    TimeUnit{"M", kMonth},
    TimeUnit{"years", kYear},
    TimeUnit{"year", kYear},
    TimeUnit{"y", kYear},
    TimeUnit{"msec", kUsecPerMsec},
    TimeUnit{"ms", kUsecPerMsec},
    TimeUnit{"usec", 1},
    TimeUnit{"us", 1},
    TimeUnit{"\xc2\xb5s", 1}, // U+00B5
};

std::optional<Microseconds> time_unit(std::string_view name) {
    if (name.empty()) return kUsecPerSec;
    for (const auto& unit : kTimeUnits)
        if (unit.name == name) return unit.value;
    return std::nullopt;
}

void skip_blanks(std::string_view& text) {
    text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
}

// "2.5" for 2500 thousandths, "2" for 2000.
std::string format_decimal(std::uint64_t value, std::uint64_t unit) {
    std::string text = fmt::format("{}", value / unit);
    std::string fraction;
    for (std::uint64_t rest = value % unit; rest != 0 && unit > 1;) {
        unit /= 10;
        fraction += static_cast<char>('0' + rest / unit);
        rest %= unit;
    }
    return fraction.empty() ? text : text + "." + fraction;
}

Microseconds clock_now(clockid_t clock) {
    timespec now = {};
    clock_gettime(clock, &now); // cannot fail for these clocks
    return static_cast<Microseconds>(now.tv_sec) * kUsecPerSec +
           static_cast<Microseconds>(now.tv_nsec) / 1000;
}

std::optional<unsigned> hex_digit(char c) {
    if (is_digit(c)) return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
    if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
    return std::nullopt;
}

// Bytes of the UTF-8 sequence at the front of `text`, 0 when there is no valid one.
std::size_t utf8_sequence(std::string_view text) {
    const auto byte = [&](std::size_t i) -> std::uint32_t {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
    };
    const std::uint32_t lead = byte(0);
    if (lead < 0x80) return 1;
    const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    std::uint32_t code = lead & (0x7fU >> size);
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xc0U) != 0x80) return 0;
        code = code << 6 | (byte(i) & 0x3fU);
    }
    constexpr std::array<std::uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    const bool bad_lead = lead < 0xc0 || lead > 0xf7;
    return bad_lead || code < kSmallest[size] || code > 0x10ffff || surrogate ? 0 : size;
}

} // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
    std::string_view rest = trim(text);
    const auto number = take_decimal(rest);
    if (!number) return fail(EINVAL, "\"{}\" is not a size", text);
    skip_blanks(rest);
    const auto unit = size_unit(rest);
    if (!unit) return fail(EINVAL, "\"{}\" is not a size (suffixes: K M G T P E)", text);
    const auto bytes = scale(*number, *unit);
    if (!bytes) return fail(ERANGE, "\"{}\" is too large", text);
    return *bytes;
}

Result<Microseconds> parse_timespan(std::string_view text) {
    std::string_view rest = trim(text);
    if (rest == "infinity") return kInfinity;
    if (rest.empty()) return fail(EINVAL, "\"{}\" is not a time span", text);
    Microseconds total = 0;
    while (!rest.empty()) {
        const auto number = take_decimal(rest);
        if (!number) return fail(EINVAL, "\"{}\" is not a time span", text);
        skip_blanks(rest);
        const auto end = std::min(rest.find_first_of(" \t\n\r.0123456789"), rest.size());
        const auto unit = time_unit(rest.substr(0, end));
        if (!unit) return fail(EINVAL, "\"{}\" is not a time span", text);
        rest.remove_prefix(end);
        skip_blanks(rest);
        const auto part = scale(*number, *unit);
        // kInfinity itself has a word of its own.
        if (!part || __builtin_add_overflow(total, *part, &total) || total == kInfinity)
            return fail(ERANGE, "\"{}\" is too long", text);
    }
    return total;
}

Result<bool> parse_bool(std::string_view text) {
    std::string word(trim(text));
    std::transform(word.begin(), word.end(), word.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    for (const char* yes : {"1", "yes", "y", "true", "t", "on"})
        if (word == yes) return true;
    for (const char* no : {"0", "no", "n", "false", "f", "off"})
        if (word == no) return false;
    return fail(EINVAL, "\"{}\" is neither yes nor no", text);
}

Result<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t maximum) {
    const std::string_view digits = trim(text);
    std::uint64_t value = 0;
    const char* begin = digits.data();
    const char* end = begin + digits.size();
    const auto [stop, error] = std::from_chars(begin, end, value);
    if (error == std::errc::invalid_argument || stop != end)
        return fail(EINVAL, "\"{}\" is not an unsigned number", text);
    if (error == std::errc::result_out_of_range || value > maximum)
        return fail(ERANGE, "\"{}\" is larger than {}", text, maximum);
    return value;
}

std::string format_size(std::uint64_t bytes) {
    constexpr std::string_view kLetters = "EPTGMK";
    for (std::size_t i = 0; i < kLetters.size(); ++i) {
        const unsigned shift = static_cast<unsigned>(10 * (kLetters.size() - i));
        const std::uint64_t unit = std::uint64_t{1} << shift;
        if (bytes < unit) continue;
        const std::uint64_t tenths = (bytes % unit) * 10 / unit; // < 2^60 * 10: fits
        return fmt::format("{}.{}{}", bytes / unit, tenths, kLetters[i]);
    }
    return fmt::format("{}B", bytes);
}

std::string format_timespan(Microseconds duration) {
    if (duration == kInfinity) return "infinity";
    if (duration == 0) return "0";
    constexpr std::array kCoarse = {TimeUnit{"y", kYear}, TimeUnit{"month", kMonth},
                                    TimeUnit{"w", kWeek}, TimeUnit{"d", kDay},
                                    TimeUnit{"h", kHour}, TimeUnit{"min", kMinute}};
    std::string text;
    const auto append = [&text](const std::string& part) {
        if (!text.empty()) text += ' ';
        text += part;
    };
    for (const auto& unit : kCoarse) {
        if (duration < unit.value) continue;
        append(fmt::format("{}{}", duration / unit.value, unit.name));
        duration %= unit.value;
    }
    if (duration >= kUsecPerSec)
        append(format_decimal(duration, kUsecPerSec) + "s");
    else if (duration >= kUsecPerMsec)
        append(format_decimal(duration, kUsecPerMsec) + "ms");
    else if (duration > 0)
        append(fmt::format("{}us", duration));
    return text;
}

std::string format_timestamp(Microseconds realtime) {
    const auto seconds = static_cast<time_t>(realtime / kUsecPerSec);
    tm parts = {};
    if (realtime == 0 || realtime == kInfinity || !gmtime_r(&seconds, &parts)) return "n/a";
    std::array<char, 64> buffer = {};
    const auto size = std::strftime(buffer.data(), buffer.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
    return {buffer.data(), size};
}

std::string_view trim(std::string_view text) {
    skip_blanks(text);
    const auto last = text.find_last_not_of(kBlanks);
    return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

std::vector<std::string> split_words(std::string_view text) {
    std::vector<std::string> words;
    for (skip_blanks(text); !text.empty(); skip_blanks(text)) {
        const auto end = std::min(text.find_first_of(kBlanks), text.size());
        words.emplace_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return words;
}

bool is_valid_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t size = utf8_sequence(text);
        if (size == 0) return false;
        text.remove_prefix(size);
    }
    return true;
}

std::string hex_encode(const void* data, std::size_t size) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const auto* bytes = static_cast<const unsigned char*>(data);
    std::string text;
    text.reserve(size * 2);
    for (std::size_t i = 0; i < size; ++i) {
        text += kDigits[bytes[i] >> 4];
        text += kDigits[bytes[i] & 15];
    }
    return text;
}

std::optional<std::string> hex_decode(std::string_view text) {
    if (text.size() % 2 != 0) return std::nullopt;
    std::string bytes;
    bytes.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const auto high = hex_digit(text[i]);
        const auto low = hex_digit(text[i + 1]);
        if (!high || !low) return std::nullopt;
        bytes += static_cast<char>(*high << 4 | *low);
    }
    return bytes;
}

Microseconds now_monotonic() {
    return clock_now(CLOCK_MONOTONIC);
}

Microseconds now_realtime() {
    return clock_now(CLOCK_REALTIME);
}

} // namespace thaw
