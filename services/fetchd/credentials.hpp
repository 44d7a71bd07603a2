// SPDX-License-Identifier: MIT
#pragma once

// What fetchd shows to servers, and by what it knows them: files that systemd put into the
// credentials directory (LoadCredential=sources:/etc/thaw/credentials). Each sources_*.conf there
// has one section [Source]; its other files are certificates and keys.

#include "config/ini.hpp"
#include "core/error.hpp"
#include "url.hpp"

#include <string>
#include <vector>

namespace thaw::fetchd {

inline constexpr std::string_view kCredentialPrefix = "sources_";

struct Credential {
    Url url; // and all below it
    std::string user;
    std::string password;
    std::string bearer_token;
    std::string s3_access_key;
    std::string s3_secret_key;
    std::string s3_region = "us-east-1";
    // Absolute paths in the credentials directory.
    std::string certificate_authority; // PEM; instead of the system's
    std::string client_certificate;    // PEM
    std::string client_key;            // PEM

    bool has_secret() const {
        return !user.empty() || !bearer_token.empty() || !s3_access_key.empty();
    }
};

// One file's text; `file` is its path. EINVAL says what is wrong with it, without any of its
// values.
Result<Credential> parse_credential(std::string_view text, const std::string& file);

struct Credentials {
    std::vector<Credential> list;
    std::vector<std::string> warnings; // files that were left out, and why

    // The one with the longest path that fits, or none.
    const Credential* find(const Url& url) const;
};
// Everything below `directory`; empty: nothing. A file that makes no sense, or a directory that
// cannot be read, is a warning: what needs none of it is served.
Credentials load_credentials(const std::string& directory);

} // namespace thaw::fetchd
