// SPDX-License-Identifier: MIT
#include "fakes/web_lab.hpp"

#include "core/file.hpp"

#include <curl/curl.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>

namespace thaw::fakes {

namespace {

// Two free ports. Somebody else may take one before nginx does: then it is tried again.
Result<std::uint16_t> free_port() {
    const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    if (!fd || ::bind(fd.get(), plain, size) < 0 || ::getsockname(fd.get(), plain, &size) < 0)
        return fail_errno(errno, "find a free port");
    return ntohs(address.sin_port);
}

bool answers(std::uint16_t port) {
    const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

pid_t run(const std::vector<std::string>& words, int output) {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (output >= 0) ::dup2(output, STDOUT_FILENO);
    ::close_range(STDERR_FILENO + 1, ~0U, 0);
    std::vector<char*> arguments;
    for (const auto& word : words)
        arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
}

Result<> shell(const std::string& command) {
    const int status = std::system(command.c_str()); // NOLINT(concurrency-mt-unsafe)
    if (status == 0) return {};
    return fail(EIO, "failed: {}", command);
}

void stop(pid_t pid) {
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
}

} // namespace

bool WebLab::available() {
    return ::access("/usr/sbin/nginx", X_OK) == 0 && ::access("/usr/bin/python3", X_OK) == 0 &&
           ::access("/usr/bin/openssl", X_OK) == 0;
}

Result<std::unique_ptr<WebLab>>
WebLab::create(const std::string& folder, const std::string& proxy_script) {
    std::unique_ptr<WebLab> lab(new WebLab(folder));
    THAW_CHECK(lab->make_files());
    THAW_CHECK(lab->start_server());
    THAW_CHECK(lab->start_proxy(proxy_script));
    return lab;
}

WebLab::~WebLab() {
    stop_server();
    stop(proxy_);
}

Result<> WebLab::make_files() const {
    for (const char* name : {"www", "www/private", "www/token", "www/cert", "www/h2", "temp"})
        THAW_CHECK(make_directories(folder_ + "/" + name));
    // {PLAIN} keeps the password readable; nginx takes it.
    THAW_CHECK(write_file_atomic(folder_ + "/htpasswd", "thaw:{PLAIN}secret\n"));
    return shell(fmt::format(
        R"(cd '{}' && exec >/dev/null 2>&1 &&
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj '/CN=thaw test authority' &&
for name in server client; do
    openssl req -new $key -keyout $name.key -out $name.csr -subj /CN=$name &&
    printf 'subjectAltName=IP:127.0.0.1\n' > $name.ext &&
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
        -extfile $name.ext -out $name.pem || exit 1
done)",
        folder_
    ));
}

Result<> WebLab::write_config() const {
    return write_file_atomic(
        folder_ + "/nginx.conf",
        fmt::format(
            R"({3}daemon off; master_process off; worker_processes 1; pid {0}/nginx.pid;
error_log {0}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; client_max_body_size 0; keepalive_requests 100000;
  client_body_temp_path {0}/temp/body; proxy_temp_path {0}/temp/proxy;
  fastcgi_temp_path {0}/temp/fastcgi; uwsgi_temp_path {0}/temp/uwsgi; scgi_temp_path {0}/temp/scgi;
  types {{ }} default_type application/octet-stream;
  dav_methods PUT DELETE; create_full_put_path on; dav_access user:rw group:r all:r;
  root {0}/www;
  server {{ listen 127.0.0.1:{1}; }}
  server {{
    listen 127.0.0.1:{2} ssl http2;
    ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;
    ssl_client_certificate {0}/ca.pem; ssl_verify_client optional;
    location /private/ {{ auth_basic thaw; auth_basic_user_file {0}/htpasswd; }}
    location /token/ {{ if ($http_authorization != "Bearer open-sesame") {{ return 401; }} }}
    location /h2/ {{ if ($server_protocol != HTTP/2.0) {{ return 426; }} }}
    location /cert/ {{ if ($ssl_client_verify != SUCCESS) {{ return 403; }} }}
  }}
}}
)",
            folder_, port_, tls_port_, ::geteuid() == 0 ? "user root; " : ""
        )
    );
}

Result<> WebLab::start_server() {
    const bool again = port_ != 0;
    for (int attempt = 0; attempt < 5; ++attempt) {
        if (!again) {
            THAW_TRY(port_, free_port());
            THAW_TRY(tls_port_, free_port());
        }
        THAW_CHECK(write_config());
        server_ = run({"/usr/sbin/nginx", "-c", folder_ + "/nginx.conf", "-p", folder_ + "/"}, -1);
        for (int i = 0; i < 500; ++i) {
            if (answers(tls_port_)) return {};
            if (::waitpid(server_, nullptr, WNOHANG) == server_) break; // a port was taken
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        stop_server();
    }
    return fail(EIO, "nginx does not start: see {}/error.log", folder_);
}

void WebLab::stop_server() {
    stop(std::exchange(server_, 0));
}

Result<> WebLab::start_proxy(const std::string& script) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) return fail_errno(errno, "make a pipe");
    const Fd read_end(ends[0]);
    Fd write_end(ends[1]);
    proxy_ =
        run({"/usr/bin/python3", script, "--upstream", fmt::format("127.0.0.1:{}", port_),
             "--tls-cert", file("server.pem"), "--tls-key", file("server.key")},
            write_end.get());
    write_end.reset();
    std::string line; // it may come in pieces
    while (!line.ends_with('\n')) {
        char piece[32];
        const ssize_t size = ::read(read_end.get(), piece, sizeof piece);
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return fail(EIO, "the proxy does not start");
        line.append(piece, static_cast<std::size_t>(size));
    }
    char* rest = nullptr;
    proxy_port_ = static_cast<std::uint16_t>(std::strtoul(line.c_str(), &rest, 10));
    tls_proxy_port_ = static_cast<std::uint16_t>(std::strtoul(rest, nullptr, 10));
    return {};
}

std::string WebLab::url(const std::string& path) const {
    return fmt::format("http://127.0.0.1:{}{}", port_, path);
}
std::string WebLab::tls_url(const std::string& path) const {
    return fmt::format("https://127.0.0.1:{}{}", tls_port_, path);
}
std::string WebLab::proxied(const std::string& path) const {
    return fmt::format("http://127.0.0.1:{}{}", proxy_port_, path);
}
std::string WebLab::tls_proxied(const std::string& path) const {
    return fmt::format("https://127.0.0.1:{}{}", tls_proxy_port_, path);
}

std::string WebLab::control(const std::string& query) const {
    std::string body;
    CURL* easy = curl_easy_init();
    const auto url = fmt::format("http://127.0.0.1:{}/.control/{}", proxy_port_, query);
    const auto take = +[](char* data, std::size_t one, std::size_t size, void* user) {
        static_cast<std::string*>(user)->append(data, one * size);
        return one * size;
    };
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
    const auto code = curl_easy_perform(easy);
    curl_easy_cleanup(easy);
    THAW_INVARIANT(code == CURLE_OK);
    return body;
}

void WebLab::spoil(const Fault& fault) const {
    control(fmt::format(
        "fault?kind={}&count={}&after={}&value={}&path={}", fault.kind, fault.count, fault.after,
        fault.value, fault.path
    ));
}

void WebLab::clear() const {
    control("clear");
}

void WebLab::forget() const {
    control("forget");
}

nlohmann::json WebLab::requests() const {
    return nlohmann::json::parse(control("log"));
}

} // namespace thaw::fakes
