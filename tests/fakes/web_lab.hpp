// SPDX-License-Identifier: MIT
#pragma once

// A real nginx of our own, on free ports of 127.0.0.1 and in a folder of its own, and in front of
// it a proxy that spoils answers on request (fault_proxy.py). Everything ends with the object.
//
//   www/            what it serves; PUT makes files there
//   /private/       wants user "thaw" with password "secret"        (of www/, TLS only)
//   /token/         wants the bearer token "open-sesame"            (of www/, TLS only)
//   /cert/          wants a client certificate                      (of www/, TLS only)
//   /h2/            wants HTTP/2                                    (of www/, TLS only)
//   ca.pem          who signed the certificate of 127.0.0.1; client.pem, client.key likewise

#include "core/error.hpp"

#include <nlohmann/json.hpp>

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace thaw::fakes {

// See fault_proxy.py.
struct Fault {
    std::string kind;
    unsigned count = 1000000; // answers that are spoiled
    std::uint64_t after = 0;
    std::string value{};
    std::string path{}; // only what ends with it
};

class WebLab {
public:
    // Whether there is an nginx, python3 and openssl here; tests skip themselves otherwise.
    static bool available();
    // `folder` stays the caller's; `proxy_script` is the path of fault_proxy.py.
    static Result<std::unique_ptr<WebLab>>
    create(const std::string& folder, const std::string& proxy_script);
    ~WebLab();
    WebLab(const WebLab&) = delete;
    WebLab& operator=(const WebLab&) = delete;

    // `path` begins with a slash.
    std::string url(const std::string& path) const;     // nginx itself
    std::string tls_url(const std::string& path) const; // with TLS and HTTP/2
    std::string proxied(const std::string& path) const; // through the proxy
    std::string tls_proxied(const std::string& path) const;
    std::string www(const std::string& path) const { return folder_ + "/www" + path; }
    std::string file(const std::string& name) const { return folder_ + "/" + name; }

    void spoil(const Fault& fault) const;
    void clear() const;
    void forget() const;
    // What the proxy was asked for.
    nlohmann::json requests() const;
    std::size_t request_count() const { return requests().size(); }

    // nginx goes away / comes back.
    void stop_server();
    Result<> start_server();

private:
    explicit WebLab(std::string folder) : folder_(std::move(folder)) {}
    Result<> make_files() const;
    Result<> write_config() const;
    Result<> start_proxy(const std::string& script);
    std::string control(const std::string& query) const;

    std::string folder_;
    std::uint16_t port_ = 0;
    std::uint16_t tls_port_ = 0;
    std::uint16_t proxy_port_ = 0;
    std::uint16_t tls_proxy_port_ = 0;
    pid_t server_ = 0;
    pid_t proxy_ = 0;
};

} // namespace thaw::fakes
