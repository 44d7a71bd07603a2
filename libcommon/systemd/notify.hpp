// SPDX-License-Identifier: MIT
#pragma once

// What a service tells its manager: state, status text, descriptors to keep. All calls are content
// when there is no $NOTIFY_SOCKET. None blocks: use a NotifyBarrier on the loop, never
// sd_notify_barrier().

#include "core/fd.hpp"
#include "event/event.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace thaw {

void notify_ready(std::string_view status);
void notify_status(std::string_view status);
void notify_stopping();
// The reason of a failure, for `systemctl status`.
void notify_failure(int errno_value, std::string_view status);

struct NamedFd {
    std::string name;
    Fd fd;
};
// Takes over all descriptors PID 1 passed (sockets and stored ones), close-on-exec, by name; their
// order means nothing. Unsets the environment variables.
Result<std::vector<NamedFd>> take_listen_fds();

// The unit's descriptor store (FileDescriptorStoreMax=). PID 1 drops what is over the limit without
// a word, so pushes are counted here against `capacity`.
class FdStore {
public:
    // `held`: how many descriptors came back at start. Without $NOTIFY_SOCKET nothing is stored.
    FdStore(std::size_t capacity, std::size_t held) : capacity_(capacity), held_(held) {}

    // Adds FDSTORE=1, FDPOLL=0. Names are at most 255 printable ASCII characters without ':'.
    // ENOSPC when the store is full, EINVAL for a bad name.
    Result<> push(const std::string& name, int fd);
    // Removes all descriptors of that name; `count` of them were pushed.
    void remove(const std::string& name, std::size_t count = 1);
    std::size_t held() const { return held_; }
    std::size_t capacity() const { return capacity_; }

private:
    std::size_t capacity_;
    std::size_t held_;
};

// Calls `handler` once everything sent to the manager so far was processed (BARRIER=1), or after
// `timeout` with ETIMEDOUT. Dropping the object forgets the handler.
class NotifyBarrier {
public:
    static Result<std::unique_ptr<NotifyBarrier>>
    send(EventLoop& loop, Microseconds timeout, std::function<void(Result<>)> handler);

private:
    void finish(Result<> result);
    std::function<void(Result<>)> handler_;
    Fd read_end_;
    EventSource closed_;
    EventSource deadline_;
};

} // namespace thaw
