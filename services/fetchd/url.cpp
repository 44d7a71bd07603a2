// SPDX-License-Identifier: MIT
#include "url.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

namespace thaw::fetchd {

namespace {

struct UrlCloser {
    void operator()(CURLU* url) const noexcept { curl_url_cleanup(url); }
};

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
    char* value = nullptr;
    if (curl_url_get(url, part, &value, flags) != CURLUE_OK) return {};
    std::string text(value);
    curl_free(value);
    return text;
}

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return text;
}

// A server may read such a path as another one than libcurl and is_below() do.
bool climbs(const std::string& path) {
    auto plain = lower(path);
    for (auto at = plain.find("%2e"); at != std::string::npos; at = plain.find("%2e"))
        plain.replace(at, 3, 1, '.');
    return plain.find("/../") != std::string::npos || plain.ends_with("/..") ||
           plain.find("%2f") != std::string::npos || plain.find('\\') != std::string::npos;
}

} // namespace

Outcome<Url> parse_url(const std::string& text) {
    const std::unique_ptr<CURLU, UrlCloser> parsed(curl_url());
    constexpr unsigned kFlags = CURLU_DISALLOW_USER | CURLU_PATH_AS_IS;
    const auto bad = [&](std::string_view why) {
        return final_failure(FetchError::Invalid, EINVAL, "'{}' {}", public_part(text), why);
    };
    if (!parsed) return passing_failure(FetchError::Invalid, ENOMEM, "no memory for a URL");
    if (curl_url_set(parsed.get(), CURLUPART_URL, text.c_str(), kFlags) != CURLUE_OK)
        return bad("is no URL (user names have no place in it)");
    Url url{
        .text = text,
        .scheme = part_of(parsed.get(), CURLUPART_SCHEME),
        .host = lower(part_of(parsed.get(), CURLUPART_HOST)),
        .port = part_of(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT),
        .path = part_of(parsed.get(), CURLUPART_PATH),
    };
    if (url.scheme != "http" && url.scheme != "https") return bad("is neither http nor https");
    if (url.host.empty()) return bad("names no host");
    if (!part_of(parsed.get(), CURLUPART_FRAGMENT).empty()) return bad("has a fragment");
    if (climbs(url.path)) return bad("leads out of its own folder");
    return url;
}

bool is_below(const Url& url, const Url& prefix) {
    if (url.scheme != prefix.scheme || url.host != prefix.host || url.port != prefix.port)
        return false;
    if (!url.path.starts_with(prefix.path)) return false;
    return prefix.path.ends_with('/') || url.path.size() == prefix.path.size() ||
           url.path[prefix.path.size()] == '/';
}

std::string public_part(std::string_view url) {
    return std::string(url.substr(0, url.find('?')));
}

} // namespace thaw::fetchd
