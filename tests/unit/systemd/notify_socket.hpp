// SPDX-License-Identifier: MIT
#pragma once

// The manager's end of $NOTIFY_SOCKET: datagrams with descriptors.

#include "core/scm.hpp"
#include "core/text.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {

class NotifySocket {
public:
    NotifySocket() {
        socket_ = Fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
        EXPECT_EQ(
            bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0
        );
        setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    }
    NotifySocket(const NotifySocket&) = delete;
    NotifySocket& operator=(const NotifySocket&) = delete;
    ~NotifySocket() { unsetenv("NOTIFY_SOCKET"); }

    struct Message {
        std::string text;
        std::vector<Fd> fds;
        bool has(const std::string& line) const {
            return ("\n" + text + "\n").find("\n" + line + "\n") != std::string::npos;
        }
    };
    // The next message, waiting for it.
    std::optional<Message> receive(int limit_ms = 5000) {
        pollfd wait{.fd = socket_.get(), .events = POLLIN, .revents = 0};
        if (poll(&wait, 1, limit_ms) != 1) return std::nullopt;
        std::array<std::byte, 4096> buffer{};
        auto received = receive_message(socket_.get(), buffer, 16);
        if (!received) return std::nullopt;
        std::string text(reinterpret_cast<const char*>(buffer.data()), received->size);
        return Message{std::move(text), std::move(received->fds)};
    }
    const std::string& path() const { return path_; }

private:
    TemporaryDirectory directory_;
    std::string path_ = directory_ / "notify";
    Fd socket_;
};

} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
