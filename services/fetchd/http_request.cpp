// SPDX-License-Identifier: MIT
#include "http_request.hpp"

#include "build_config.hpp"

namespace thaw::fetchd {

namespace {

void show_credentials(Transfer& transfer, const Credential& credential) {
    if (!credential.certificate_authority.empty()) {
        transfer.set(CURLOPT_CAINFO, credential.certificate_authority.c_str());
        transfer.set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
    }
    if (!credential.client_certificate.empty()) {
        transfer.set(CURLOPT_SSLCERT, credential.client_certificate.c_str());
        transfer.set(CURLOPT_SSLKEY, credential.client_key.c_str());
    }
    if (!credential.user.empty()) {
        transfer.set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
        transfer.set(CURLOPT_USERNAME, credential.user.c_str());
        transfer.set(CURLOPT_PASSWORD, credential.password.c_str());
    } else if (!credential.bearer_token.empty()) {
        transfer.set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
        transfer.set(CURLOPT_XOAUTH2_BEARER, credential.bearer_token.c_str());
    } else if (!credential.s3_access_key.empty()) {
        const auto scheme = "aws:amz:" + credential.s3_region + ":s3";
        transfer.set(CURLOPT_AWS_SIGV4, scheme.c_str());
        transfer.set(CURLOPT_USERNAME, credential.s3_access_key.c_str());
        transfer.set(CURLOPT_PASSWORD, credential.s3_secret_key.c_str());
    }
}

Failure failure(FetchError error, int errno_value, bool retryable, std::string text) {
    return {error, errno_value, retryable, std::move(text)};
}

} // namespace

Outcome<> set_up_request(Transfer& transfer, const Engine& engine, const std::string& url) {
    auto parsed = parse_url(url);
    if (!parsed) return std::unexpected(std::move(parsed).error());
    const auto milliseconds = engine.config.connect_timeout / kUsecPerMsec;
    transfer.set(CURLOPT_URL, url.c_str());
    transfer.set(CURLOPT_PATH_AS_IS, 1L);
    transfer.set(CURLOPT_PROTOCOLS_STR, "http,https");
    transfer.set(CURLOPT_FOLLOWLOCATION, 0L);
    transfer.set(CURLOPT_PROXY, engine.config.proxy.c_str());
    transfer.set(CURLOPT_CONNECTTIMEOUT_MS, std::max(static_cast<long>(milliseconds), 1L));
    transfer.set(CURLOPT_USERAGENT, "thaw-fetchd/" THAW_VERSION);
    transfer.set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    // Rather one more stream of a connection than one more connection.
    transfer.set(CURLOPT_PIPEWAIT, 1L);
    transfer.set(CURLOPT_SSL_VERIFYPEER, 1L);
    transfer.set(CURLOPT_SSL_VERIFYHOST, 2L);
    transfer.set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    transfer.set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    if (const auto* credential = engine.credentials.find(*parsed))
        show_credentials(transfer, *credential);
    return {};
}

Failure failure_of(CURLcode code, const Transfer& transfer) {
    auto text = transfer.error_text(code);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return failure(FetchError::Unreachable, EHOSTUNREACH, true, std::move(text));
    case CURLE_OPERATION_TIMEDOUT:
        return failure(FetchError::Timeout, ETIMEDOUT, true, std::move(text));
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return failure(FetchError::Reset, ECONNRESET, true, std::move(text));
    case CURLE_PARTIAL_FILE:
        return failure(FetchError::Short, ENODATA, true, std::move(text));
    case CURLE_SSL_CONNECT_ERROR: // a connection that breaks while TLS is set up, too
        return failure(FetchError::Tls, EKEYREJECTED, true, std::move(text));
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED:
        return failure(FetchError::Tls, EKEYREJECTED, false, std::move(text));
    case CURLE_LOGIN_DENIED:
    case CURLE_AUTH_ERROR:
        return failure(FetchError::Credentials, EACCES, false, std::move(text));
    case CURLE_URL_MALFORMAT:
        return failure(FetchError::Invalid, EINVAL, false, std::move(text));
    case CURLE_OUT_OF_MEMORY:
        return failure(FetchError::Unreachable, ENOMEM, true, std::move(text));
    default:
        return failure(FetchError::Protocol, EPROTO, false, std::move(text));
    }
}

} // namespace thaw::fetchd
