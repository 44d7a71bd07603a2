// SPDX-License-Identifier: MIT
#include "server.hpp"

#include "core/file.hpp"
#include "core/scm.hpp"
#include "fakes/daemon_launch.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <random>

namespace thaw::rootfs::test {

Server::Server() {
    auto nbd = listen_unix(nbd_socket(), SOCK_STREAM, 16);
    auto control = listen_unix(control_socket(), SOCK_SEQPACKET, 16);
    EXPECT_TRUE(nbd && control);
    nbd_ = std::move(*nbd);
    control_ = std::move(*control);
}

Server::~Server() {
    if (pid_ > 0) stop(SIGKILL);
}

void Server::make_base(std::size_t size) {
    std::mt19937_64 random(size);
    base_.resize(size);
    for (std::size_t i = 0; i < size; i += 8) {
        const auto word = random();
        std::memcpy(&base_[i], &word, 8);
    }
    std::fill_n(base_.begin() + static_cast<std::ptrdiff_t>(size / 4), size / 4, std::byte{0});
    auto file = open_file(path("base"), O_RDWR | O_CREAT | O_TRUNC, 0644);
    ASSERT_TRUE(file);
    ASSERT_EQ(::ftruncate(file->get(), static_cast<off_t>(size)), 0);
    for (const std::size_t quarter : {0, 2, 3})
        ASSERT_EQ(
            ::pwrite(
                file->get(), &base_[size / 4 * quarter], size / 4,
                static_cast<off_t>(size / 4 * quarter)
            ),
            static_cast<ssize_t>(size / 4)
        );
}

void Server::start(std::vector<std::string> settings) {
    ASSERT_LT(pid_, 0);
    auto log = open_file(path("log"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ASSERT_TRUE(log);
    settings.insert(
        settings.begin(), {"--plugin=" THAW_ROOTFS_PLUGIN, "name=vm", "base=" + path("base")}
    );
    pid_ = fakes::launch_daemon({
        .program = THAW_ROOTFS_PROGRAM,
        .descriptors = {{"control", control_.get()}, {"nbd", nbd_.get()}},
        .environment = {{"DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent"}},
        .log = log->get(),
        .arguments = std::move(settings),
    });
    ASSERT_GT(pid_, 0);
}

bool Server::running() {
    if (pid_ < 0) return false;
    if (::waitpid(pid_, nullptr, WNOHANG) != pid_) return true;
    pid_ = -1;
    return false;
}

int Server::stop(int signal) {
    ::kill(pid_, signal);
    int status = -1;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
}

std::string Server::log() const {
    return read_file(path("log")).value_or("");
}

int run(const std::string& command, std::string* output) {
    std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "re");
    EXPECT_NE(pipe, nullptr);
    std::string all;
    std::array<char, 4096> buffer{};
    while (const auto n = std::fread(buffer.data(), 1, buffer.size(), pipe))
        all.append(buffer.data(), n);
    const int status = ::pclose(pipe);
    if (status != 0) fmt::print(stderr, "{}: {}\n", command, all);
    if (output != nullptr) *output = all;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

} // namespace thaw::rootfs::test
