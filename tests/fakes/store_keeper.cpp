// SPDX-License-Identifier: MIT
#include "fakes/store_keeper.hpp"

#include "core/scm.hpp"
#include "event/priorities.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <span>

namespace thaw::fakes {

Result<std::unique_ptr<StoreKeeper>> StoreKeeper::start(EventLoop& loop, const std::string& path) {
    auto keeper = std::make_unique<StoreKeeper>();
    keeper->path_ = path;
    keeper->socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(
            keeper->socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address
        ) != 0)
        return fail_errno(errno, "bind {}", path);
    THAW_TRY(
        keeper->source_, loop.add_io(
                             keeper->socket_.get(), EPOLLIN,
                             [self = keeper.get()](std::uint32_t) { self->on_message(); },
                             "store-keeper", priority::kNotify
                         )
    );
    return keeper;
}

std::size_t StoreKeeper::count(const std::string& suffix) const {
    std::size_t found = 0;
    for (const auto& [name, fd] : stored_)
        found += name.ends_with(suffix) ? 1 : 0;
    return found;
}

void StoreKeeper::remove_role(const std::string& suffix) {
    std::erase_if(stored_, [&](const auto& entry) { return entry.first.ends_with(suffix); });
}

void StoreKeeper::on_message() {
    std::array<std::byte, 4096> buffer{};
    auto message = receive_message(socket_.get(), buffer, 16);
    if (!message) return;
    std::map<std::string, std::string> fields;
    std::string_view text(reinterpret_cast<const char*>(buffer.data()), message->size);
    while (!text.empty()) {
        const auto line = text.substr(0, text.find('\n'));
        const auto equals = line.find('=');
        if (equals != std::string_view::npos)
            fields.emplace(line.substr(0, equals), line.substr(equals + 1));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
    }
    apply(fields, std::move(message->fds));
}

void StoreKeeper::apply(const std::map<std::string, std::string>& fields, std::vector<Fd> fds) {
    if (fields.contains("READY")) ready = true;
    if (const auto found = fields.find("STATUS"); found != fields.end()) status = found->second;
    if (fields.contains("FDSTOREREMOVE")) stored_.erase(fields.at("FDNAME"));
    if (fields.contains("FDSTORE"))
        for (auto& fd : fds)
            stored_.emplace(fields.at("FDNAME"), std::move(fd));
    // BARRIER=1: closing its descriptor is the answer.
}

} // namespace thaw::fakes
