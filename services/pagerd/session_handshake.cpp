// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "session.hpp"
#include "session_socket.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

namespace thaw::pagerd {

Result<> Session::listen(Microseconds handshake_timeout) {
    handshake_timeout_ = handshake_timeout;
    // In safe mode nothing new is taken on; a VMM that connects waits in the backlog.
    if (broker_.safe_mode) return {};
    THAW_TRY(
        accept_source_, broker_.loop.add_io(
                            listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connection(); },
                            "session-socket", priority::kVital
                        )
    );
    return {};
}

void Session::on_connection() {
    Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) return; // EAGAIN, ECONNABORTED: whoever it was went away
    // At once: when the broker dies before the handshake is done, the next one goes on with it.
    if (auto stored = store(FdRole::Conn, connection.get()); !stored)
        log_warning(log_fields(), "{}", stored.error().message());
    if (auto begun = begin_handshake(std::move(connection)); !begun) on_stranger(begun.error());
}

// One connection at a time; others wait in the backlog until this one is known for a stranger.
Result<> Session::begin_handshake(Fd connection) {
    accept_source_.enable(false);
    const auto& info = memory_.info();
    THAW_TRY(
        handshake_,
        Handshake::begin(
            broker_.loop, broker_.systemd, std::move(connection),
            {
                .unit = info.unit,
                .limits =
                    {
                        .memory_size = info.memory_size,
                        .page_size = info.page_size,
                        .max_regions = protocol::kMaxRegions,
                    },
                .timeout = handshake_timeout_,
            },
            {
                .proven = [this] { set_state(SessionState::Handshaking); },
                .stranger = [this](const Error& error) { on_stranger(error); },
                .done = [this](Result<HandshakeResult> r) { on_handshake(std::move(r)); },
            }
        )
    );
    return {};
}

void Session::on_stranger(const Error& error) {
    handshake_.reset();
    unstore(FdRole::Conn);
    log_event(
        LogLevel::Warning, message_id::kHandshakeRejected, log_fields(),
        "{}: a connection was refused: {}", name(), error.message()
    );
    accept_source_.enable(true);
}

void Session::on_handshake(Result<HandshakeResult> result) {
    // Kept to the end: we run inside one of its callbacks.
    const auto handshake = std::move(handshake_);
    if (!result) return fail(std::move(result).error());
    if (auto served = serve(*result); !served) {
        // Nothing was installed and no worker runs: the VMM's own copy keeps its faults waiting.
        uffd_.reset();
        fail(std::move(served).error());
    }
}

Result<> Session::serve(HandshakeResult& result) {
    std::vector<protocol::Region> regions;
    regions.reserve(result.regions.size());
    for (const auto& region : result.regions)
        regions.push_back({region.address, region.size, region.offset, region.page_size});
    if (auto set = memory_.set_regions(regions); !set)
        return std::unexpected(std::move(set).error().with_bus_name(pager1::error::kRegionsInvalid)
        );
    uffd_ = std::move(result.uffd);
    vmm_ = std::move(result.peer.pidfd);
    // The pidfd first: a userfaultfd in the store always has its VMM beside it.
    for (const auto& [role, fd] : {std::pair{FdRole::Vmm, vmm_.get()}, {FdRole::Uffd, uffd_.get()}})
        if (auto stored = store(role, fd); !stored)
            return std::unexpected(std::move(stored).error().with_bus_name(pager1::error::kStoreFull
            ));
    connection_ = std::move(result.connection);
    unstore(FdRole::Conn);
    stop_listening();
    THAW_CHECK(watch_vmm());
    make_worker();
    worker_->start_first();
    return {};
}

// It takes one VMM and no second one.
void Session::stop_listening() {
    accept_source_.reset();
    unstore(FdRole::Listen);
    listener_.reset();
    remove_session_socket(broker_.config.runtime_directory, name());
}

} // namespace thaw::pagerd
