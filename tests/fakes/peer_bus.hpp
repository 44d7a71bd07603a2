// SPDX-License-Identifier: MIT
#pragma once

// Two ends of one D-Bus connection over a socket pair, both on the test's loop: no bus daemon.

#include "bus/bus.hpp"
#include "core/fd.hpp"
#include "fakes/run_until.hpp"

#include <sys/socket.h>

#include <cerrno>

namespace thaw::fakes {

struct PeerBus {
    Bus server;
    Bus client;

    // Both ends are connected and on the loop.
    static Result<PeerBus> create(EventLoop& loop) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
            return fail_errno(errno, "socketpair");
        THAW_TRY(auto server, open(Fd(ends[0]), true));
        THAW_TRY(auto client, open(Fd(ends[1]), false));
        THAW_CHECK(server.attach(loop));
        THAW_CHECK(client.attach(loop));
        // A message that arrives in one read with the end of the handshake is left in sd-bus's
        // buffer until the next one comes.
        auto ready = [&] {
            return sd_bus_is_ready(server.get()) > 0 && sd_bus_is_ready(client.get()) > 0;
        };
        if (!run_until(loop, ready)) return fail(ETIMEDOUT, "peer bus did not connect");
        return PeerBus{std::move(server), std::move(client)};
    }

private:
    static Result<Bus> open(Fd socket, bool is_server) {
        sd_bus* bus = nullptr;
        sd_id128_t id{};
        int r = sd_bus_new(&bus);
        if (r >= 0) r = sd_id128_randomize(&id);
        if (r >= 0) {
            const int fd = socket.release();
            r = sd_bus_set_fd(bus, fd, fd);
        }
        if (r >= 0) r = sd_bus_negotiate_fds(bus, 1);
        if (r >= 0) r = sd_bus_negotiate_creds(bus, 1, SD_BUS_CREDS_EUID);
        if (r >= 0 && is_server) r = sd_bus_set_server(bus, 1, id);
        if (r >= 0) r = sd_bus_start(bus);
        if (r < 0) {
            sd_bus_unref(bus);
            return fail_errno(-r, "start peer bus");
        }
        return Bus::adopt(bus);
    }
};

} // namespace thaw::fakes
