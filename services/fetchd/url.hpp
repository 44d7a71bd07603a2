// SPDX-License-Identifier: MIT
#pragma once

// URLs as the fetcher takes them: http and https, a host, no user name, no fragment.

#include "failure.hpp"

#include <string>
#include <string_view>

namespace thaw::fetchd {

struct Url {
    std::string text;   // as given
    std::string scheme; // "https"
    std::string host;   // lower case
    std::string port;   // always there
    std::string path;   // at least "/"
    bool is_tls() const { return scheme == "https"; }
};

// FetchError::Invalid says why not.
Outcome<Url> parse_url(const std::string& text);

// Same server, and `path` lies below the folder (or is the file) that `prefix` names.
bool is_below(const Url& url, const Url& prefix);

// For the journal: without the query, which may hold a signature.
std::string public_part(std::string_view url);

} // namespace thaw::fetchd
