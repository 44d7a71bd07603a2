// SPDX-License-Identifier: MIT
#include "journal_sink.hpp"

#include "core/file.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace thaw::testing {

namespace {

constexpr const char* kPath = "/run/systemd/journal/socket";

// The native protocol: KEY=value lines, or KEY, newline, 64-bit length, bytes, newline.
JournalEntry parse(std::string_view text) {
    JournalEntry entry;
    while (!text.empty()) {
        const auto end = text.find('\n');
        if (end == std::string_view::npos) break;
        const auto line = text.substr(0, end);
        text.remove_prefix(end + 1);
        if (const auto equals = line.find('='); equals != std::string_view::npos) {
            entry[std::string(line.substr(0, equals))] = line.substr(equals + 1);
            continue;
        }
        std::uint64_t size = 0;
        if (text.size() < sizeof size) break;
        std::memcpy(&size, text.data(), sizeof size);
        text.remove_prefix(sizeof size);
        if (text.size() < size + 1) break;
        entry[std::string(line)] = text.substr(0, size);
        text.remove_prefix(size + 1);
    }
    return entry;
}

} // namespace

JournalSink::JournalSink(EventLoop& loop) : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::strncpy(address.sun_path, kPath, sizeof address.sun_path - 1);
    const int size = 4 << 20;
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (!make_directories("/run/systemd/journal") || !remove_if_exists(kPath) ||
        bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
        std::abort();
    auto source = loop.add_io(
        socket_.get(), EPOLLIN, [this](std::uint32_t) { entries(); }, "journal-sink", -50
    );
    if (!source) std::abort();
    readable_ = std::move(*source);
}

const std::vector<JournalEntry>& JournalSink::entries() {
    std::string buffer(256 << 10, '\0');
    while (true) {
        const auto got = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got <= 0) return entries_;
        entries_.push_back(parse(std::string_view(buffer).substr(0, static_cast<std::size_t>(got)))
        );
    }
}

std::vector<JournalEntry> JournalSink::find(std::string_view message_id) {
    std::vector<JournalEntry> found;
    for (const auto& entry : entries())
        if (auto id = entry.find("MESSAGE_ID"); id != entry.end() && id->second == message_id)
            found.push_back(entry);
    return found;
}

} // namespace thaw::testing
