// SPDX-License-Identifier: MIT
#pragma once

// One question to the server of a VM's root file system: how much of the disk was changed, and
// where that lies. Nothing blocks; the server is not trusted.

#include "event/event.hpp"
#include "protocol/rootfs_control.hpp"

#include <functional>
#include <string>

namespace thaw::restore {

class RootfsQuery {
public:
    using Handler = std::function<void(Result<protocol::RootfsStatus>)>;

    // Asks at once. `handler` is called once, from the loop, and may destroy the query; destroying
    // it earlier forgets the handler. Errors: rootfs_error::kNotRunning (ENOENT), ETIMEDOUT,
    // ECONNRESET, EBADMSG. `loop` must outlive the object.
    RootfsQuery(EventLoop& loop, const std::string& socket_path, Handler handler);
    RootfsQuery(const RootfsQuery&) = delete;
    RootfsQuery& operator=(const RootfsQuery&) = delete;

private:
    Result<> ask(const std::string& socket_path);
    void on_answer();
    Result<protocol::RootfsStatus> read_answer();
    void finish(Result<protocol::RootfsStatus> result);

    EventLoop& loop_;
    Handler handler_;
    Fd socket_;
    EventSource readable_;
    EventSource deadline_; // or what says that the question could not be asked
};

} // namespace thaw::restore
