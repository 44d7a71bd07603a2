// SPDX-License-Identifier: MIT
#pragma once

// Pure decisions about what a server answered: is it the very bytes that were asked for, of the
// very object? Nothing of an answer is written anywhere before this has said so.

#include "failure.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thaw::fetchd {

// Status and header fields of one answer; those that did not come are empty.
struct Answer {
    long status = 0;
    std::optional<std::string> content_range{};
    std::optional<std::string> content_encoding{};
    std::optional<std::string> content_length{};
    std::optional<std::string> etag{};
    std::optional<std::string> last_modified{};
};

struct ContentRange {
    std::uint64_t first = 0;
    std::uint64_t last = 0; // inclusive
    std::uint64_t total = 0;
};
// "bytes 0-4095/8192". Nothing for anything else, an unknown total included.
std::optional<ContentRange> parse_content_range(std::string_view text);
// The total of "bytes */8192", which comes with 416.
std::optional<std::uint64_t> parse_unsatisfied_range(std::string_view text);

// Bytes [first, first + length) of the object `pinned` were asked for.
Outcome<> check_range(
    const Answer& answer, const SourceIdentity& pinned, std::uint64_t first, std::uint64_t length
);
// The first byte was asked for, to learn what there is.
Outcome<SourceIdentity> check_probe(const Answer& answer);
// A PUT.
Outcome<> check_put(const Answer& answer);

// If-Match takes only an ETag that is a strong one.
bool is_strong_etag(std::string_view etag);

} // namespace thaw::fetchd
