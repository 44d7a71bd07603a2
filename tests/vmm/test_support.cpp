// SPDX-License-Identifier: MIT
#include "test_support.hpp"

#include <fmt/format.h>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace thaw::standin::test {
namespace {

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(
        address.sun_path, path.c_str(), std::min(path.size(), sizeof(address.sun_path) - 1)
    );
    return address;
}

pid_t spawn(const std::vector<std::string>& arguments, const std::string& directory) {
    std::vector<char*> argv;
    std::string program = STANDIN_PROGRAM;
    argv.push_back(program.data());
    std::vector<std::string> copy = arguments;
    for (std::string& argument : copy) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL); // a killed test leaves nothing behind
        if (::chdir(directory.c_str()) == 0) {
            ::execv(program.c_str(), argv.data());
        }
        ::_exit(127);
    }
    return pid;
}

} // namespace

bool eventually(const std::function<bool()>& predicate) {
    for (int i = 0; i < 1000; ++i) {
        if (predicate()) {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
}

WorkDirectory::WorkDirectory() {
    const char* parent = std::getenv("TMPDIR");
    path_ = std::string(parent != nullptr ? parent : "/tmp") + "/standin-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp " + path_);
}

WorkDirectory::~WorkDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

int run_program(const std::vector<std::string>& arguments) {
    int status = -1;
    ::waitpid(spawn(arguments, "/"), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void make_image(
    const WorkDirectory& directory, const std::vector<std::string>& options, unsigned memory_mib
) {
    std::vector<std::string> arguments = {
        "--make-snapshot", directory.root(), "--memory-mib", std::to_string(memory_mib)
    };
    arguments.insert(arguments.end(), options.begin(), options.end());
    ASSERT_EQ(run_program(arguments), 0);
}

Fd listen_unix(const std::string& path) {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    EXPECT_EQ(
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0
    );
    EXPECT_EQ(::listen(socket.get(), 8), 0);
    return socket;
}

Fd connect_unix(const std::string& path, int timeout_seconds) {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    const timeval timeout{timeout_seconds, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
        0) {
        return Fd();
    }
    return socket;
}

std::string format_request(const std::string& method, const std::string& path, const json& body) {
    const std::string text = body.is_null() ? "" : body.dump();
    return fmt::format(
        "{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}", method, path,
        text.size(), text
    );
}

Reply exchange(int socket, const std::string& request) {
    ::send(socket, request.data(), request.size(), MSG_NOSIGNAL);
    std::string input;
    char buffer[65536];
    Reply reply;
    for (;;) {
        const ssize_t got = ::recv(socket, buffer, sizeof(buffer), 0);
        if (got <= 0) {
            return {};
        }
        input.append(buffer, static_cast<std::size_t>(got));
        const std::size_t end = input.find("\r\n\r\n");
        if (end == std::string::npos) {
            continue;
        }
        reply.raw_head = input.substr(0, end);
        const std::size_t at = reply.raw_head.find("Content-Length: ");
        const std::size_t size =
            at == std::string::npos ? 0 : std::stoul(reply.raw_head.substr(at + 16));
        if (input.size() < end + 4 + size) {
            continue;
        }
        reply.status = std::stoi(reply.raw_head.substr(9));
        reply.body = size == 0 ? json() : json::parse(input.substr(end + 4, size), nullptr, false);
        return reply;
    }
}

StandinProcess::StandinProcess(
    const WorkDirectory& directory, const json& profile, bool wait_for_api,
    const std::string& socket
)
    : socket_(directory.path(socket)) {
    const std::string file = directory.path(socket + ".profile.json");
    std::ofstream(file) << profile.dump();
    pid_ = spawn({"--api-sock", socket, "--id", "vm-1", "--profile", file}, directory.root());
    if (wait_for_api) {
        EXPECT_TRUE(eventually([&] { return static_cast<bool>(connect_unix(socket_, 1)); }));
    }
}

StandinProcess::~StandinProcess() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
}

std::optional<int> StandinProcess::wait(int timeout_ms) {
    for (int waited = 0; waited <= timeout_ms; waited += 5) {
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) == pid_) {
            pid_ = -1;
            return status;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return std::nullopt;
}

Reply StandinProcess::call(
    const std::string& method, const std::string& path, const json& body, int timeout_seconds
) const {
    const Fd socket = connect_unix(socket_, timeout_seconds);
    return socket ? exchange(socket.get(), format_request(method, path, body)) : Reply{};
}

Reply StandinProcess::load(
    bool resume, const std::string& backend, const std::string& target, int timeout_seconds
) const {
    return call(
        "PUT", "/snapshot/load",
        {{"snapshot_path", "vmstate"},
         {"mem_backend", {{"backend_type", backend}, {"backend_path", target}}},
         {"resume_vm", resume}},
        timeout_seconds
    );
}

} // namespace thaw::standin::test
