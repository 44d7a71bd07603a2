// SPDX-License-Identifier: MIT
#include "credentials.hpp"

#include "core/file.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace thaw::fetchd {

namespace {

constexpr std::size_t kMostBytes = 64 << 10;

// Another file of the credentials directory, by the name it has in /etc/thaw/credentials.
Result<> place(std::string& name, const std::string& directory) {
    if (name.empty()) return {};
    if (name.find('/') != std::string::npos || name.starts_with('.'))
        return fail(EINVAL, "certificates and keys are named by the name of their file");
    name = directory + "/" + std::string(kCredentialPrefix) + name;
    return {};
}

Result<> check(const Credential& credential) {
    const int ways = int{!credential.user.empty()} + int{!credential.bearer_token.empty()} +
                     int{!credential.s3_access_key.empty()};
    if (ways > 1) return fail(EINVAL, "only one of User=, BearerToken= and S3AccessKey= can be");
    if (credential.user.empty() != credential.password.empty() ||
        credential.s3_access_key.empty() != credential.s3_secret_key.empty())
        return fail(EINVAL, "a name without its secret, or a secret without its name");
    if (credential.client_key.empty() != credential.client_certificate.empty())
        return fail(EINVAL, "ClientCertificate= and ClientKey= belong together");
    if (credential.has_secret() && !credential.url.is_tls())
        return fail(EINVAL, "secrets are sent to https URLs only");
    return {};
}

} // namespace

Result<Credential> parse_credential(std::string_view text, const std::string& file) {
    Credential credential;
    std::string url;
    const std::string section = "Source";
    const std::vector<ConfigKey> keys{
        {section, "Url", config_string(&url)},
        {section, "User", config_string(&credential.user)},
        {section, "Password", config_string(&credential.password)},
        {section, "BearerToken", config_string(&credential.bearer_token)},
        {section, "S3AccessKey", config_string(&credential.s3_access_key)},
        {section, "S3SecretKey", config_string(&credential.s3_secret_key)},
        {section, "S3Region", config_string(&credential.s3_region)},
        {section, "CertificateAuthority", config_string(&credential.certificate_authority)},
        {section, "ClientCertificate", config_string(&credential.client_certificate)},
        {section, "ClientKey", config_string(&credential.client_key)},
    };
    // A setting that is not understood may be the one that keeps the secret safe.
    const auto warnings = parse_config(text, file, keys);
    if (!warnings.empty()) return fail(EINVAL, "line {} is not understood", warnings[0].line);
    auto parsed = parse_url(url);
    if (!parsed) return fail(EINVAL, "Url= is missing or is not a URL of http or https");
    credential.url = std::move(*parsed);
    const auto directory = std::filesystem::path(file).parent_path().string();
    THAW_CHECK(place(credential.certificate_authority, directory));
    THAW_CHECK(place(credential.client_certificate, directory));
    THAW_CHECK(place(credential.client_key, directory));
    THAW_CHECK(check(credential));
    return credential;
}

const Credential* Credentials::find(const Url& url) const {
    const Credential* best = nullptr;
    for (const auto& credential : list)
        if (is_below(url, credential.url) &&
            (best == nullptr || best->url.path.size() < credential.url.path.size()))
            best = &credential;
    return best;
}

Credentials load_credentials(const std::string& directory) {
    Credentials loaded;
    if (directory.empty()) return loaded;
    std::error_code error;
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
        const auto name = entry.path().filename().string();
        if (name.starts_with(kCredentialPrefix) && name.ends_with(".conf"))
            files.push_back(entry.path().string());
    }
    if (error && error != std::errc::no_such_file_or_directory)
        loaded.warnings.push_back(fmt::format("read {}: {}", directory, errno_text(error.value())));
    std::ranges::sort(files);
    for (const auto& file : files) {
        auto text = read_file(file, kMostBytes);
        auto credential = text ? parse_credential(*text, file)
                               : Result<Credential>(std::unexpected(text.error()));
        if (credential)
            loaded.list.push_back(std::move(*credential));
        else
            loaded.warnings.push_back(
                std::filesystem::path(file).filename().string().substr(kCredentialPrefix.size()) +
                ": " + credential.error().message()
            );
    }
    return loaded;
}

} // namespace thaw::fetchd
