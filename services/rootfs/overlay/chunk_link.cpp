// SPDX-License-Identifier: MIT
#include "overlay/chunk_link.hpp"

#include "core/scm.hpp"
#include "event/signals_blocked.hpp"
#include "log/log.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

namespace thaw::rootfs {

using namespace std::chrono_literals;

namespace {

constexpr int kGreetingMs = 10'000;
// An answer that was lost costs no more than this.
constexpr int kAskAgainMs = 1000;
// Doubled with each attempt in vain.
constexpr int kDialAgainMs = 50;
constexpr unsigned kMostDoublings = 5;
constexpr unsigned kGreetings = 3;
constexpr auto kGreetAgain = 300ms;

// A message within the time. ETIMEDOUT.
Result<protocol::ControlMessage> receive_within(int socket, int timeout_ms) {
    pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
    int ready = -1;
    do
        ready = ::poll(&waiting, 1, timeout_ms);
    while (ready < 0 && errno == EINTR);
    if (ready < 0) return fail_errno(errno, "wait for the pager");
    if (ready == 0) return fail(ETIMEDOUT, "the pager does not answer");
    return protocol::receive_control(socket);
}

Result<std::shared_ptr<const ChunkView>> view_of(protocol::ChunksMessage chunks) {
    THAW_TRY(
        auto map, protocol::ChunkMap::map(std::move(chunks.map), protocol::ChunkMap::Access::Read)
    );
    THAW_TRY(auto uses, protocol::ChunkUses::map(std::move(chunks.uses), map.chunk_count()));
    return std::make_shared<const ChunkView>(
        std::move(chunks.data), std::move(chunks.index), std::move(map), std::move(uses)
    );
}

} // namespace

Result<std::unique_ptr<ChunkLink>> ChunkLink::connect(std::string socket) {
    std::unique_ptr<ChunkLink> link(new ChunkLink(std::move(socket)));
    link->wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!link->wake_) return fail_errno(errno, "eventfd");
    for (unsigned attempt = 1;; ++attempt) {
        const auto greeted = link->greet();
        if (greeted) return link;
        if (greeted.error().code() != ECONNRESET) return std::unexpected(greeted.error());
        if (attempt == kGreetings)
            return fail(EACCES, "the pager turns this server away: its journal says why");
        std::this_thread::sleep_for(kGreetAgain);
    }
}

Result<> ChunkLink::greet() {
    THAW_TRY(socket_, connect_unix(path_, SOCK_SEQPACKET, true));
    THAW_TRY(auto greeting, receive_within(socket_.get(), kGreetingMs));
    if (greeting.type != protocol::ControlType::Chunks)
        return fail(EBADMSG, "the pager begins with another message");
    THAW_TRY(view_, view_of(std::move(greeting.chunks)));
    return {};
}

ChunkLink::~ChunkLink() {
    {
        const std::scoped_lock lock(mutex_);
        ending_ = true;
    }
    ::eventfd_write(wake_.get(), 1);
    if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const ChunkView> ChunkLink::view() const {
    const std::scoped_lock lock(mutex_);
    return view_;
}

Result<> ChunkLink::want(
    std::uint32_t chunk, std::uint32_t pages, std::uint32_t ahead, Clock::time_point deadline
) {
    Wait wait{.wanted = {.chunk = chunk, .pages = pages, .ahead = ahead}};
    std::unique_lock lock(mutex_);
    if (!thread_.joinable()) start_thread();
    waits_.push_back(&wait);
    ::eventfd_write(wake_.get(), 1); // from now on it looks at the time
    // What cannot be sent now is said again by the thread.
    if (socket_) (void)protocol::send_control(socket_.get(), protocol::encode(wait.wanted));
    if (waited_in_vain_) deadline = std::min(deadline, Clock::now() + kShortPatience);
    const bool answered = changed_.wait_until(lock, deadline, [&] { return wait.over; });
    std::erase(waits_, &wait);
    if (!answered) {
        waited_in_vain_ = true;
        return fail(ETIMEDOUT, "chunk {} of the base did not come", chunk);
    }
    if (wait.errno_value != 0)
        return fail_errno(wait.errno_value, "chunk {} of the base cannot be had", chunk);
    return {};
}

void ChunkLink::start_thread() {
    // Signals are nbdkit's main thread's.
    const AllSignalsBlocked blocked;
    thread_ = std::thread([this] { run(); });
}

// The socket is this thread's to replace: others only send on it, and with the lock held.
void ChunkLink::run() {
    for (;;) {
        {
            const std::scoped_lock lock(mutex_);
            if (ending_) return;
        }
        if (socket_)
            listen();
        else
            dial();
    }
}

void ChunkLink::listen() {
    std::array waiting{
        pollfd{.fd = socket_.get(), .events = POLLIN, .revents = 0},
        pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0},
    };
    const int ready = ::poll(waiting.data(), waiting.size(), is_idle() ? -1 : kAskAgainMs);
    if (ready == 0) return ask_all();
    drain_wake();
    if (ready < 0 || waiting[0].revents == 0) return;
    auto message = protocol::receive_control(socket_.get());
    const std::scoped_lock lock(mutex_);
    if (message) return take(std::move(*message));
    if (message.error().code() == EAGAIN) return;
    log_notice("the pager has gone ({}): waiting for the next", message.error().message());
    socket_.reset();
}

bool ChunkLink::is_idle() const {
    const std::scoped_lock lock(mutex_);
    return waits_.empty();
}

void ChunkLink::drain_wake() const {
    eventfd_t count = 0;
    (void)::eventfd_read(wake_.get(), &count);
}

void ChunkLink::dial() {
    // A new broker needs a moment, and one that sends us away is not to be stormed. Whom nobody
    // waits for need not dial.
    pollfd waiting{.fd = wake_.get(), .events = POLLIN, .revents = 0};
    if (is_idle()) {
        (void)::poll(&waiting, 1, -1);
    } else {
        const int pause = kDialAgainMs << std::min(dials_++, kMostDoublings);
        std::this_thread::sleep_for(std::chrono::milliseconds(pause));
    }
    drain_wake();
    auto connected = connect_unix(path_, SOCK_SEQPACKET, true);
    if (!connected) return;
    const std::scoped_lock lock(mutex_);
    socket_ = std::move(*connected);
}

// With the lock held, as all that follows.
void ChunkLink::take(protocol::ControlMessage message) {
    switch (message.type) {
    case protocol::ControlType::ChunkLanded:
        return end_waits(message.chunk_landed.chunk, 0);
    case protocol::ControlType::ChunkFailed: {
        const int code = message.chunk_failed.errno_value;
        return end_waits(message.chunk_failed.chunk, code > 0 ? code : EIO);
    }
    case protocol::ControlType::Chunks:
        if (auto adopted = adopt(std::move(message.chunks)); adopted) return;
        [[fallthrough]];
    default:
        log_warning("the pager sends what it never should: dialing it again");
        socket_.reset();
    }
}

// A new broker may have lost the cache and begun another; of another base it never speaks here.
Result<> ChunkLink::adopt(protocol::ChunksMessage chunks) {
    THAW_TRY(auto view, view_of(std::move(chunks)));
    if (view->map.image() != view_->map.image() ||
        view->map.memory_size() != view_->map.memory_size())
        return fail(EBADMSG, "another base");
    view_ = std::move(view);
    dials_ = 0;
    for (auto* wait : waits_)
        wait->over = true;
    changed_.notify_all();
    return {};
}

void ChunkLink::end_waits(std::uint32_t chunk, int errno_value) {
    if (errno_value == 0) waited_in_vain_ = false;
    for (auto* wait : waits_) {
        if (wait->wanted.chunk != chunk) continue;
        wait->over = true;
        wait->errno_value = errno_value;
    }
    changed_.notify_all();
}

void ChunkLink::ask_all() {
    const std::scoped_lock lock(mutex_);
    for (const auto* wait : waits_)
        (void)protocol::send_control(socket_.get(), protocol::encode(wait->wanted));
}

} // namespace thaw::rootfs
