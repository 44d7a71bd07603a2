// SPDX-License-Identifier: MIT
#include "control_channel.hpp"

#include "clock.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace thaw::worker {

namespace {

constexpr std::uint64_t kFirstDelay = 2 * kNsPerMs;
// While no broker is to be had this is all that wakes an idle worker.
constexpr std::uint64_t kLongestDelay = 1'000 * kNsPerMs;

bool connect_to(int socket, const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return false;
    std::memcpy(address.sun_path, path.data(), path.size());
    return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

} // namespace

ControlChannel::ControlChannel(
    Fd channel, std::vector<Fd> spares, std::string control_path, const protocol::HelloView& hello
)
    : channel_(std::move(channel)), spares_(std::move(spares)), path_(std::move(control_path)),
      hello_(hello) {}

std::uint64_t ControlChannel::next_deadline() const {
    return channel_ || spares_.empty() ? kNever : next_dial_ns_;
}

void ControlChannel::lost(std::uint64_t now) {
    channel_.reset();
    next_dial_ns_ = now + delay_ns_; // at once after a connection that worked
    delay_ns_ = std::clamp(delay_ns_ * 2, kFirstDelay, kLongestDelay);
}

ControlChannel::Wishes ControlChannel::receive(std::uint64_t now) {
    Wishes wishes;
    while (channel_) {
        auto message = protocol::receive_control(channel_.get());
        if (!message && message.error().code() == EAGAIN) return wishes;
        if (!message) { // closed, or a broker that we do not understand: try another one
            lost(now);
            return wishes;
        }
        delay_ns_ = 0; // it talks to us
        if (message->type == protocol::ControlType::Quit) wishes.quit = true;
        if (message->type == protocol::ControlType::Attend) wishes.attend = true;
        if (message->type == protocol::ControlType::ChunkLanded)
            wishes.landed.push_back(message->chunk_landed);
        if (message->type == protocol::ControlType::ChunkFailed)
            wishes.failed.push_back(message->chunk_failed);
        if (message->type == protocol::ControlType::Welcome) {
            for (Fd& spare : message->welcome.spares)
                if (spares_.size() < protocol::kMaxSpareSockets)
                    spares_.push_back(std::move(spare));
        }
    }
    return wishes;
}

bool ControlChannel::dial(std::uint64_t now) {
    if (channel_ || spares_.empty() || now < next_dial_ns_) return false;
    if (!connect_to(spares_.back().get(), path_)) {
        lost(now); // the socket can be used again
        return false;
    }
    channel_ = std::move(spares_.back());
    spares_.pop_back();
    // A connection that closes before the broker has said a word is not tried again at once.
    delay_ns_ = std::max(delay_ns_, kFirstDelay);
    send(protocol::encode(hello_), now);
    return static_cast<bool>(channel_);
}

void ControlChannel::send(const protocol::EncodedMessage& message, std::uint64_t now) {
    if (!channel_) return;
    const auto sent = protocol::send_control(channel_.get(), message);
    if (!sent && sent.error().code() != EAGAIN) lost(now);
}

} // namespace thaw::worker
