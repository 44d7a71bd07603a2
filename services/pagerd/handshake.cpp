// SPDX-License-Identifier: MIT
#include "handshake.hpp"

#include "api/pager1.hpp"
#include "core/scm.hpp"
#include "event/priorities.hpp"
#include "uffd_check.hpp"

#include <sys/epoll.h>

#include <array>
#include <span>
#include <utility>

namespace thaw::pagerd {

namespace {

constexpr std::size_t kReadSize = 64 << 10;
// The userfaultfd and what later generations may send beside it.
constexpr std::size_t kMaxDescriptors = 3;

template <class... Args>
std::unexpected<Error> bad_handshake(fmt::format_string<Args...> text, Args&&... args) {
    return fail_named(
        pager1::error::kHandshakeInvalid, EPROTO, "{}",
        fmt::format(text, std::forward<Args>(args)...)
    );
}

std::unexpected<Error> wrong_descriptors(std::string_view what) {
    return fail_named(pager1::error::kDescriptorsInvalid, EBADF, "{}", what);
}

} // namespace

Handshake::Handshake(EventLoop& loop, Fd connection, Options options, Events events)
    : loop_(loop), connection_(std::move(connection)), options_(std::move(options)),
      events_(std::move(events)) {}

Result<std::unique_ptr<Handshake>> Handshake::begin(
    EventLoop& loop, SystemdClient& systemd, Fd connection, Options options, Events events
) {
    // Private constructor: make_unique cannot reach it.
    std::unique_ptr<Handshake> handshake(
        new Handshake(loop, std::move(connection), std::move(options), std::move(events))
    );
    auto* self = handshake.get();
    THAW_CHECK(set_nonblocking(self->connection_.get(), true));
    THAW_TRY(
        self->peer_check_, PeerCheck::begin(
                               loop, systemd, self->connection_.get(), self->options_.unit,
                               [self](Result<Peer> peer) { self->on_peer(std::move(peer)); }
                           )
    );
    THAW_TRY(
        self->deadline_, loop.add_timer(
                             self->options_.timeout, [self] { self->on_timeout(); },
                             "handshake-deadline", priority::kTimer
                         )
    );
    return handshake;
}

void Handshake::on_peer(Result<Peer> peer) {
    if (!peer) {
        const auto stranger = std::exchange(events_.stranger, nullptr);
        stranger(std::move(peer).error());
        return;
    }
    peer_ = std::move(*peer);
    auto watched = loop_.add_io(
        connection_.get(), EPOLLIN, [this](std::uint32_t) { on_readable(); }, "handshake",
        priority::kVital
    );
    if (!watched) {
        finish(std::unexpected(std::move(watched).error()));
        return;
    }
    readable_ = std::move(*watched);
    events_.proven();
}

void Handshake::on_timeout() {
    const auto* what = peer_.pidfd ? "the VMM did not send its whole message"
                                   : "systemd did not tell the unit of the connected process";
    finish(fail_named(
        pager1::error::kHandshakeTimeout, ETIMEDOUT, "{} within {}", what,
        format_timespan(options_.timeout)
    ));
}

void Handshake::on_readable() {
    for (;;) {
        auto more = read_part();
        if (!more) return finish(std::unexpected(std::move(more).error()));
        if (scanner_.state() == ArrayScanner::State::Complete) return finish(evaluate());
        if (!*more) return;
    }
}

Result<bool> Handshake::read_part() {
    std::array<std::byte, kReadSize> buffer;
    // Room for one more than is allowed tells too many from truncated.
    auto message = receive_message(connection_.get(), buffer, kMaxDescriptors + 1);
    if (!message) {
        if (message.error().code() == EAGAIN) return false;
        return bad_handshake("reading the VMM's message: {}", message.error().message());
    }
    for (auto& fd : message->fds)
        fds_.push_back(std::move(fd));
    if (message->control_truncated || fds_.size() > kMaxDescriptors)
        return wrong_descriptors("the VMM sent too many descriptors");
    if (message->end_of_stream)
        return bad_handshake("the VMM closed the connection after {} bytes", text_.size());
    const std::string_view part(reinterpret_cast<const char*>(buffer.data()), message->size);
    if (text_.size() + part.size() > kMaxRegionText)
        return bad_handshake("the VMM's message is longer than {} bytes", kMaxRegionText);
    text_ += part;
    if (scanner_.feed(part) == ArrayScanner::State::Invalid)
        return bad_handshake("the VMM's message is not a JSON array");
    return true;
}

Result<HandshakeResult> Handshake::evaluate() {
    if (fds_.empty()) return wrong_descriptors("the VMM sent no descriptor");
    HandshakeResult result;
    THAW_TRY(result.regions, parse_region_list(text_));
    THAW_CHECK(validate_regions(result.regions, options_.limits));
    THAW_CHECK(check_userfaultfd(fds_.front().get(), result.regions));
    // Alive at this moment: what follows acts for a VMM, not for a memory of one.
    if (pidfd_has_exited(peer_.pidfd.get()))
        return fail_named(pager1::error::kVmmExited, ESRCH, "the VMM is gone");
    result.uffd = std::move(fds_.front());
    readable_.reset();
    result.connection = std::move(connection_);
    result.peer = std::move(peer_);
    return result;
}

void Handshake::finish(Result<HandshakeResult> result) {
    readable_.reset();
    deadline_.reset();
    peer_check_.reset();
    fds_.clear();
    // The handler may destroy us: nothing after this line touches members.
    const auto done = std::exchange(events_.done, nullptr);
    done(std::move(result));
}

} // namespace thaw::pagerd
