// SPDX-License-Identifier: MIT
#include "peer_check.hpp"

#include "api/pager1.hpp"
#include "event/priorities.hpp"

#include <utility>

namespace thaw::pagerd {

namespace {

constexpr Microseconds kRetry = 50 * kUsecPerMsec;

// systemd is not on the bus at the moment, or was too busy; its own errors are answers.
bool is_no_answer(int code) {
    return code == EHOSTUNREACH || code == ENXIO || code == ETIMEDOUT || code == ECONNRESET;
}

template <class... Args>
std::unexpected<Error> mismatch(fmt::format_string<Args...> text, Args&&... args) {
    return fail_named(
        pager1::error::kPeerMismatch, EPERM, "{}", fmt::format(text, std::forward<Args>(args)...)
    );
}

} // namespace

PeerCheck::PeerCheck(
    EventLoop& loop, SystemdClient& systemd, Peer peer, std::string unit, Handler handler
)
    : loop_(loop), systemd_(systemd), peer_(std::move(peer)), unit_(std::move(unit)),
      handler_(std::move(handler)) {}

Result<std::unique_ptr<PeerCheck>> PeerCheck::begin(
    EventLoop& loop, SystemdClient& systemd, int connection, const std::string& unit,
    Handler handler
) {
    auto peer = socket_peer(connection);
    if (!peer) return mismatch("the peer cannot be told: {}", peer.error().message());
    // Private constructor: make_unique cannot reach it.
    std::unique_ptr<PeerCheck> check(
        new PeerCheck(loop, systemd, std::move(*peer), unit, std::move(handler))
    );
    check->ask();
    return check;
}

void PeerCheck::ask() {
    question_ = systemd_.unit_of_pid(peer_.pid, [this](Result<std::string> unit) {
        on_unit(std::move(unit));
    });
}

void PeerCheck::on_unit(Result<std::string> unit) {
    if (!unit && is_no_answer(unit.error().code()) && !pidfd_has_exited(peer_.pidfd.get())) {
        auto timer =
            loop_.add_timer(kRetry, [this] { ask(); }, "peer-check-retry", priority::kTimer);
        if (timer) {
            retry_ = std::move(*timer);
            return;
        }
    }
    auto outcome = judge(unit);
    // The handler may destroy us: nothing after this line touches members.
    const auto handler = std::exchange(handler_, nullptr);
    handler(std::move(outcome));
}

Result<Peer> PeerCheck::judge(const Result<std::string>& unit) {
    if (!unit) return mismatch("no unit of process {}: {}", peer_.pid, unit.error().message());
    if (*unit != unit_)
        return mismatch("process {} is of unit {}, not {}", peer_.pid, *unit, unit_);
    if (pidfd_has_exited(peer_.pidfd.get())) return mismatch("process {} is gone", peer_.pid);
    return std::move(peer_);
}

} // namespace thaw::pagerd
