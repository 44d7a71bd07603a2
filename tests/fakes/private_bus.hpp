// SPDX-License-Identifier: MIT
#pragma once

// A dbus-daemon of the test's own, with the rules of a system bus. Its directory and the process
// are gone when the object is; the process also dies with the test.

#include "bus/bus.hpp"
#include "core/fd.hpp"

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace thaw::fakes {

class PrivateBus {
public:
    struct Options {
        // Folders with *.conf as in /usr/share/dbus-1/system.d.
        std::vector<std::string> policy_folders;
        // Folders with *.service for activation.
        std::vector<std::string> service_folders;
        // Policy text put into <busconfig>. By default everybody may own and call everything;
        // pass "" to get a system bus's default denial with only `policy_folders` opening it.
        std::string policy = kOpenPolicy;
    };
    static constexpr const char* kOpenPolicy =
        "<policy context=\"default\"><allow own=\"*\"/><allow send_type=\"method_call\"/></policy>";

    // ENOENT when there is no dbus-daemon on this machine (skip the test).
    static Result<std::unique_ptr<PrivateBus>> start(const Options& options);
    static Result<std::unique_ptr<PrivateBus>> start() { return start(Options{}); }
    PrivateBus(const PrivateBus&) = delete;
    PrivateBus& operator=(const PrivateBus&) = delete;
    ~PrivateBus();

    const std::string& address() const { return address_; }
    // World-accessible scratch directory that also holds the socket.
    const std::string& directory() const { return directory_; }
    // A new connection, attached to the loop.
    Result<Bus> connect(EventLoop& loop) const;
    // The same, not attached.
    Result<Bus> connect() const;
    // Makes it the system bus of this process and of children started from now on.
    void use_as_system_bus() const;
    // Kills the bus (SIGKILL): all connections break. A second start() makes another bus.
    void kill();

private:
    PrivateBus() = default;
    Result<> launch(const Options& options);
    Result<> spawn(const std::string& config);
    std::string directory_;
    std::string address_;
    pid_t pid_ = -1;
};

} // namespace thaw::fakes
