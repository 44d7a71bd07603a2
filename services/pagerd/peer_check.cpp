// SPDX-License-Identifier: MIT
#include "peer_check.hpp"

#include "api/pager1.hpp"

#include <utility>

namespace thaw::pagerd {

namespace {
template <class... Args>
std::unexpected<Error> mismatch(fmt::format_string<Args...> text, Args&&... args) {
    return fail_named(
        pager1::error::kPeerMismatch, EPERM, "{}", fmt::format(text, std::forward<Args>(args)...)
    );
}
} // namespace

PeerCheck::PeerCheck(Peer peer, std::string unit, Handler handler)
    : peer_(std::move(peer)), unit_(std::move(unit)), handler_(std::move(handler)) {}

Result<std::unique_ptr<PeerCheck>>
PeerCheck::begin(SystemdClient& systemd, int connection, const std::string& unit, Handler handler) {
    auto peer = socket_peer(connection);
    if (!peer) return mismatch("the peer cannot be told: {}", peer.error().message());
    const auto pid = peer->pid;
    // Private constructor: make_unique cannot reach it.
    std::unique_ptr<PeerCheck> check(new PeerCheck(std::move(*peer), unit, std::move(handler)));
    check->question_ = systemd.unit_of_pid(pid, [self = check.get()](Result<std::string> answer) {
        self->on_unit(std::move(answer));
    });
    return check;
}

void PeerCheck::on_unit(Result<std::string> unit) {
    Result<Peer> outcome = [&]() -> Result<Peer> {
        if (!unit) return mismatch("no unit of process {}: {}", peer_.pid, unit.error().message());
        if (*unit != unit_)
            return mismatch("process {} is of unit {}, not {}", peer_.pid, *unit, unit_);
        if (pidfd_has_exited(peer_.pidfd.get())) return mismatch("process {} is gone", peer_.pid);
        return std::move(peer_);
    }();
    // The handler may destroy us: nothing after this line touches members.
    const auto handler = std::exchange(handler_, nullptr);
    handler(std::move(outcome));
}

} // namespace thaw::pagerd
