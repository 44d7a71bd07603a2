// SPDX-License-Identifier: MIT
#include "answer_check.hpp"

#include "core/text.hpp"

#include <limits>

namespace thaw::fetchd {

namespace {

enum Status : long {
    kOk = 200,
    kCreated = 201,
    kNoContent = 204,
    kPartialContent = 206,
    kRedirections = 300,
    kErrors = 400,
    kUnauthorized = 401,
    kForbidden = 403,
    kNotFound = 404,
    kProxyAuthentication = 407,
    kRequestTimeout = 408,
    kGone = 410,
    kPreconditionFailed = 412,
    kRangeNotSatisfiable = 416,
    kTooEarly = 425,
    kTooManyRequests = 429,
    kServerErrors = 500,
};

constexpr std::string_view kUnit = "bytes ";

// Digits only, as HTTP has them.
std::optional<std::uint64_t> number(std::string_view digits) {
    if (digits.empty() || digits.find_first_not_of("0123456789") != std::string_view::npos)
        return std::nullopt;
    const auto value = parse_unsigned(digits);
    return value ? std::optional(*value) : std::nullopt;
}

// Every status that is not the one hoped for.
Failure refusal(long status) {
    if (status == kUnauthorized || status == kForbidden || status == kProxyAuthentication)
        return {
            FetchError::Credentials, EACCES, false,
            fmt::format("the server wants other credentials (status {})", status)
        };
    if (status >= kRedirections && status < kErrors)
        return {
            FetchError::Refused, EREMOTEIO, false,
            fmt::format("the server redirects (status {}), which is not followed", status)
        };
    const bool passes = status == kRequestTimeout || status == kTooEarly ||
                        status == kTooManyRequests || status >= kServerErrors;
    const bool missing = status == kNotFound || status == kGone;
    return {
        FetchError::Refused, missing ? ENOENT : EREMOTEIO, passes,
        fmt::format("the server answered with status {}", status)
    };
}

Failure changed(std::string_view what, std::string_view now, std::string_view then) {
    return {
        FetchError::Changed, ESTALE, false,
        fmt::format("the object has changed: its {} is '{}', it was '{}'", what, now, then)
    };
}

// Nothing when the answer speaks of the object that was pinned, as far as it says.
std::optional<Failure> compare_tags(const Answer& answer, const SourceIdentity& pinned) {
    if (!pinned.etag.empty()) {
        if (answer.etag.value_or("") == pinned.etag) return std::nullopt;
        return changed("ETag", answer.etag.value_or(""), pinned.etag);
    }
    if (pinned.last_modified.empty() || answer.last_modified.value_or("") == pinned.last_modified)
        return std::nullopt;
    return changed("date", answer.last_modified.value_or(""), pinned.last_modified);
}

Failure wrong_range(std::string text) {
    // Passing: one of many servers behind a name may be the odd one.
    return {FetchError::Range, ERANGE, true, std::move(text)};
}

Failure unsatisfied(const Answer& answer, const SourceIdentity& pinned) {
    const auto total = parse_unsatisfied_range(answer.content_range.value_or(""));
    if (total && *total != pinned.length)
        return changed("length", std::to_string(*total), std::to_string(pinned.length));
    return {
        FetchError::Range, ERANGE, false, "the server says that the range does not exist (416)"
    };
}

Outcome<> check_encoding(const Answer& answer) {
    const auto encoding = answer.content_encoding.value_or("identity");
    if (encoding.empty() || encoding == "identity") return {};
    return final_failure(
        FetchError::Range, ERANGE, "the server packs what it sends ({}), though not asked to",
        encoding
    );
}

} // namespace

std::optional<ContentRange> parse_content_range(std::string_view text) {
    if (!text.starts_with(kUnit)) return std::nullopt;
    text.remove_prefix(kUnit.size());
    const auto dash = text.find('-');
    const auto slash = text.find('/');
    if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash)
        return std::nullopt;
    const auto first = number(text.substr(0, dash));
    const auto last = number(text.substr(dash + 1, slash - dash - 1));
    const auto total = number(text.substr(slash + 1));
    if (!first || !last || !total || *first > *last || *last >= *total) return std::nullopt;
    return ContentRange{*first, *last, *total};
}

std::optional<std::uint64_t> parse_unsatisfied_range(std::string_view text) {
    constexpr std::string_view kPrefix = "bytes */";
    if (!text.starts_with(kPrefix)) return std::nullopt;
    return number(text.substr(kPrefix.size()));
}

bool is_strong_etag(std::string_view etag) {
    return etag.size() >= 2 && etag.front() == '"' && etag.back() == '"';
}

Outcome<> check_range(
    const Answer& answer, const SourceIdentity& pinned, std::uint64_t first, std::uint64_t length
) {
    if (answer.status == kPreconditionFailed)
        return final_failure(FetchError::Changed, ESTALE, "the object has changed (status 412)");
    if (answer.status == kRangeNotSatisfiable) return std::unexpected(unsatisfied(answer, pinned));
    if (answer.status != kPartialContent && answer.status != kOk)
        return std::unexpected(refusal(answer.status));
    // Another object is the graver news, whatever else is wrong.
    if (auto other = compare_tags(answer, pinned)) return std::unexpected(std::move(*other));
    if (answer.status == kOk)
        return std::unexpected(wrong_range("the server sends everything instead of a range"));
    THAW_CHECK(check_encoding(answer));
    const auto range = parse_content_range(answer.content_range.value_or(""));
    if (!range)
        return std::unexpected(wrong_range(fmt::format(
            "the server does not say which bytes it sends ('{}')", answer.content_range.value_or("")
        )));
    if (range->total != pinned.length)
        return std::unexpected(
            changed("length", std::to_string(range->total), std::to_string(pinned.length))
        );
    if (range->first != first || range->last != first + length - 1)
        return std::unexpected(wrong_range(fmt::format(
            "the server sends bytes {}-{} instead of {}-{}", range->first, range->last, first,
            first + length - 1
        )));
    return {};
}

Outcome<SourceIdentity> check_probe(const Answer& answer) {
    SourceIdentity identity{
        .etag = answer.etag.value_or(""), .last_modified = answer.last_modified.value_or("")
    };
    if (identity.etag.size() > protocol::kFetchMaxTag ||
        identity.last_modified.size() > protocol::kFetchMaxTag)
        return final_failure(FetchError::Protocol, EPROTO, "the object's ETag or date is too long");
    if (answer.status == kRangeNotSatisfiable) {
        // All that an empty object can say.
        const auto total = parse_unsatisfied_range(answer.content_range.value_or(""));
        if (total && *total == 0) return identity;
    }
    if (answer.status == kOk) {
        // nginx ignores ranges of an empty file.
        if (answer.content_length.value_or("") == "0") return identity;
        return final_failure(
            FetchError::Range, ERANGE, "the server does not serve ranges of this object"
        );
    }
    if (answer.status != kPartialContent) return std::unexpected(refusal(answer.status));
    THAW_CHECK(check_encoding(answer));
    const auto range = parse_content_range(answer.content_range.value_or(""));
    if (!range || range->first != 0 || range->last != 0)
        return std::unexpected(wrong_range("the server does not say how long the object is"));
    identity.length = range->total;
    return identity;
}

Outcome<> check_put(const Answer& answer) {
    if (answer.status == kOk || answer.status == kCreated || answer.status == kNoContent) return {};
    return std::unexpected(refusal(answer.status));
}

} // namespace thaw::fetchd
