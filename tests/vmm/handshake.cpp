// SPDX-License-Identifier: MIT
#include "handshake.hpp"

#include "death.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

namespace thaw::standin {
namespace {

struct Element {
    std::uint64_t base, size, offset;
};

std::vector<Element> elements(const Profile& profile, const GuestMemory& memory) {
    std::vector<Element> out;
    for (const auto& region : memory.regions()) {
        out.push_back(
            {reinterpret_cast<std::uintptr_t>(region.host), region.layout.size, region.layout.offset
            }
        );
    }
    const std::uint64_t page = memory.page_size();
    if (profile.has("overlapping_regions")) {
        // The last region in two halves; the second starts one page too early. The sum stays.
        Element& last = out.back();
        const std::uint64_t half = last.size / 2 / page * page;
        Element second{last.base + half - page, last.size - half, last.offset + half};
        last.size = half;
        out.push_back(second);
    }
    if (profile.has("unaligned_regions")) {
        out.front().base += 512;
    }
    if (profile.has("wrong_offsets")) {
        out.back().offset += page;
    }
    if (profile.has("sum_mismatch")) {
        out.back().size -= page;
    }
    return out;
}

Result<Fd> connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return fail("Failed to connect to UDS Unix stream: path must be shorter than SUN_LEN");
    }
    std::memcpy(address.sun_path, path.c_str(), path.size());
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket ||
        ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
        return fail("Failed to connect to UDS Unix stream: " + os_error(errno));
    }
    return socket;
}

Result<void> send_plain(int socket, const char* data, std::size_t size) {
    while (size > 0) {
        const ssize_t sent = ::send(socket, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            return fail("Failed to sendmsg on UDS: " + os_error(errno));
        }
        data += sent;
        size -= static_cast<std::size_t>(sent);
    }
    return {};
}

/// One sendmsg with the descriptors; what a stream socket did not take follows plainly.
Result<void> send_with(int socket, const std::string& data, const std::vector<int>& descriptors) {
    iovec part{const_cast<char*>(data.data()), data.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const std::size_t bytes = descriptors.size() * sizeof(int);
    std::vector<std::uint64_t> control((CMSG_SPACE(bytes) + 7) / 8); // aligned for a cmsghdr
    if (!descriptors.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(bytes);
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
    }
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0) {
        return fail("Failed to sendmsg on UDS: " + os_error(errno));
    }
    return send_plain(socket, data.data() + sent, data.size() - static_cast<std::size_t>(sent));
}

Result<void> send_body(const Profile& profile, int socket, const std::string& body, int userfault) {
    std::vector<Fd> others;
    std::vector<int> descriptors;
    const unsigned count = profile.has("no_fd") ? 0 : profile.descriptors;
    for (unsigned i = 0; i < count; ++i) {
        if (i == 0 && !profile.has("fd_not_uffd")) {
            descriptors.push_back(userfault);
            continue;
        }
        others.emplace_back(::memfd_create("standin-extra", MFD_CLOEXEC));
        descriptors.push_back(others.back().get());
    }
    const std::size_t piece = (body.size() + profile.split_pieces - 1) / profile.split_pieces;
    if (auto sent = send_with(socket, body.substr(0, piece), descriptors); !sent) {
        return sent;
    }
    for (std::size_t at = piece; at < body.size(); at += piece) {
        std::this_thread::sleep_for(std::chrono::milliseconds(profile.split_delay_ms));
        const std::size_t size = std::min(piece, body.size() - at);
        if (auto sent = send_plain(socket, body.data() + at, size); !sent) {
            return sent;
        }
    }
    return {};
}

} // namespace

std::string handshake_body(const Profile& profile, const GuestMemory& memory) {
    nlohmann::ordered_json body = nlohmann::ordered_json::array();
    for (const Element& element : elements(profile, memory)) {
        nlohmann::ordered_json item = {
            {"base_host_virt_addr", element.base},
            {"size", element.size},
            {"offset", element.offset}
        };
        if (profile.has_page_size()) {
            item["page_size"] = memory.page_size();
        }
        if (profile.has_page_size_kib()) {
            item["page_size_kib"] = memory.page_size(); // bytes, despite the name
        }
        body.push_back(std::move(item));
    }
    if (profile.has("huge_json")) {
        body[0]["filler"] = std::string(profile.huge_json_bytes, 'x');
    }
    std::string text = body.dump();
    if (profile.has("malformed_json")) {
        text.replace(text.size() / 2, 1, "}\x01{");
    }
    if (profile.has("truncated_json")) {
        text.resize(text.size() - text.size() / 3);
    }
    return text;
}

Result<Fd> send_handshake(
    const Profile& profile, const GuestMemory& memory, int userfault, const std::string& socket_path
) {
    die_if_told(profile, "before-connect");
    if (profile.has("never_connect")) {
        return Fd();
    }
    auto socket = connect_to(socket_path);
    if (!socket) {
        return socket;
    }
    die_if_told(profile, "after-connect");
    if (profile.has("connect_but_send_nothing")) {
        return socket;
    }
    const std::string body = handshake_body(profile, memory);
    if (auto sent = send_body(profile, socket->get(), body, userfault); !sent) {
        return fail(sent.error());
    }
    die_if_told(profile, "after-send");
    return profile.keeps_socket() ? std::move(socket) : Result<Fd>(Fd());
}

} // namespace thaw::standin
