// SPDX-License-Identifier: MIT
#pragma once

// The control socket of a VM's overlay for programs that may block (thawctl). One object, one
// connection; not thread-safe.

#include "core/text.hpp"
#include "protocol/rootfs_control.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace thaw::protocol {

inline constexpr const char* kRootfsRuntime = "/run/thaw/rootfs";
std::string rootfs_control_socket(std::string_view vm, std::string_view root = kRootfsRuntime);
// VMs that have a folder below `root`, sorted; none when `root` does not exist.
Result<std::vector<std::string>> list_rootfs(const std::string& root = kRootfsRuntime);

class RootfsClient {
public:
    // Each step on the socket waits at most `timeout` (ETIMEDOUT). rootfs_error::kNotRunning when
    // nobody listens at `path`, EACCES for callers that may not.
    static Result<RootfsClient> connect(const std::string& path, Microseconds timeout = 10000000);

    Result<RootfsStatus> status();
    // The point is held until this object goes. One per connection: EBUSY (kBusy) for the second.
    Result<PointReply> point();

private:
    explicit RootfsClient(Fd socket) : socket_(std::move(socket)) {}
    struct Answer {
        std::vector<std::byte> data;
        std::vector<Fd> fds;
    };
    Result<Answer> ask(RootfsType request);
    Fd socket_;
};

} // namespace thaw::protocol
