// SPDX-License-Identifier: MIT
#pragma once

// nbdkit with our plugin, started as PID 1 would: by its program, with two listening sockets.

#include "core/fd.hpp"
#include "unit/support/temporary_directory.hpp"

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

namespace thaw::rootfs::test {

inline constexpr std::size_t kMiB = 1 << 20;
inline constexpr std::size_t kBlock = 4096; // of the overlay

using Bytes = std::vector<std::byte>;
inline Bytes filled(std::size_t size, int value) {
    return Bytes(size, static_cast<std::byte>(value));
}

class Server {
public:
    // Its folder: base, sockets, the settings' own files.
    Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server(); // SIGKILL

    std::string path(std::string_view name) const { return folder_ / name; }
    std::string nbd_socket() const { return path("nbd.sock"); }
    std::string control_socket() const { return path("control"); }
    std::string uri() const { return "nbd+unix:///?socket=" + nbd_socket(); }

    // A base of random bytes with a hole of a quarter of it, as "base".
    void make_base(std::size_t size);
    const std::vector<std::byte>& base() const { return base_; }

    // With base= and these settings. The sockets stay through restarts, as units' do.
    void start(std::vector<std::string> settings = {});
    bool running();
    // Sends the signal and reaps it; how it ended.
    int stop(int signal);
    std::string log() const; // what it wrote to standard error

private:
    thaw::test::TemporaryDirectory folder_;
    std::vector<std::byte> base_;
    Fd nbd_;
    Fd control_;
    pid_t pid_ = -1;
};

// Exit status of a shell command; its output goes to `output` if there is one.
int run(const std::string& command, std::string* output = nullptr);

} // namespace thaw::rootfs::test
