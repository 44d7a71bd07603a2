// SPDX-License-Identifier: MIT
#include "overlay_server.hpp"

#include "core/file.hpp"
#include "core/scm.hpp"
#include "must.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace thaw::fakes {

using protocol::PointEntry;
using protocol::PointKind;
using protocol::RootfsType;

namespace {

// A second description of the same file, read-only.
Fd reopen(int fd) {
    return must(open_file("/proc/self/fd/" + std::to_string(fd), O_RDONLY));
}

// The tool may be gone by now.
void tell(int connection, const protocol::RootfsMessage& message) {
    static_cast<void>(protocol::send_rootfs(connection, message));
}

} // namespace

OverlayServer::OverlayServer(Setup setup)
    : setup_(std::move(setup)), listener_(must(listen_unix(setup_.socket, SOCK_SEQPACKET, 8))),
      stop_(eventfd(0, EFD_CLOEXEC)), memory_(memfd_create("overlay", MFD_CLOEXEC)),
      disk_(must(open_file(setup_.disk_path, O_RDWR | O_CREAT | O_TRUNC, 0600))),
      thread_([this] { serve(); }) {}

OverlayServer::~OverlayServer() {
    eventfd_write(stop_.get(), 1);
    thread_.join();
    unlink(setup_.socket.c_str());
}

void OverlayServer::write(
    std::uint64_t block, std::span<const std::byte> data, const std::function<void()>& written
) {
    const std::scoped_lock lock(mutex_);
    if (written) written();
    Place& place = places_[block];
    if (std::ranges::all_of(data, [](std::byte b) { return b == std::byte{0}; })) {
        place = {.kind = PointKind::Zero, .slot = 0, .epoch = epoch_};
        return;
    }
    if (place.kind == PointKind::Zero || (holder_ >= 0 && place.epoch < epoch_)) {
        const bool memory = memory_slots_ < setup_.memory_blocks;
        place.kind = memory ? PointKind::Memory : PointKind::Disk;
        place.slot = memory ? memory_slots_++ : disk_slots_++;
    }
    place.epoch = epoch_;
    const int file = place.kind == PointKind::Memory ? memory_.get() : disk_.get();
    const auto at = static_cast<off_t>(place.slot * setup_.geometry.block_size);
    THAW_INVARIANT(pwrite(file, data.data(), data.size(), at) == static_cast<ssize_t>(data.size()));
}

bool OverlayServer::point_held() {
    const std::scoped_lock lock(mutex_);
    return holder_ >= 0;
}

void OverlayServer::on_point(std::function<void()> callback) {
    const std::scoped_lock lock(mutex_);
    on_point_ = std::move(callback);
}

void OverlayServer::serve() {
    std::vector<Fd> connections;
    for (;;) {
        std::vector<pollfd> waits{
            {.fd = stop_.get(), .events = POLLIN, .revents = 0},
            {.fd = listener_.get(), .events = POLLIN, .revents = 0},
        };
        for (const auto& connection : connections)
            waits.push_back({.fd = connection.get(), .events = POLLIN, .revents = 0});
        if (poll(waits.data(), waits.size(), -1) < 0) continue;
        if (waits[0].revents != 0) return;
        for (std::size_t i = connections.size(); i-- > 0;) {
            if (waits[i + 2].revents == 0) continue;
            const int fd = connections[i].get();
            if ((waits[i + 2].revents & POLLHUP) == 0) {
                answer(fd);
                continue;
            }
            const std::scoped_lock lock(mutex_);
            if (holder_ == fd) holder_ = -1;
            connections.erase(connections.begin() + static_cast<std::ptrdiff_t>(i));
        }
        if (waits[1].revents != 0)
            connections.emplace_back(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
}

void OverlayServer::answer(int connection) {
    const auto request = protocol::receive_rootfs_request(connection);
    if (!request) {
        tell(
            connection, protocol::encode_rootfs_failure(
                            protocol::rootfs_error::kBadRequest, EBADMSG, request.error().message()
                        )
        );
        return;
    }
    if (*request == RootfsType::Status) {
        tell(connection, protocol::encode_status_reply(status()));
        return;
    }
    send_point(connection);
}

void OverlayServer::send_point(int connection) {
    const std::scoped_lock lock(mutex_);
    if (holder_ >= 0) {
        tell(
            connection, protocol::encode_rootfs_failure(
                            protocol::rootfs_error::kBusy, EBUSY, "another connection holds a point"
                        )
        );
        return;
    }
    std::vector<PointEntry> table;
    for (const auto& [block, place] : places_)
        table.push_back(
            {.first_block = block,
             .count = 1,
             .kind = place.kind,
             .file_offset = place.slot * setup_.geometry.block_size}
        );
    holder_ = connection;
    if (on_point_) on_point_();
    const Fd sealed = must(protocol::make_point_table(table));
    const Fd memory = reopen(memory_.get());
    const Fd disk = reopen(disk_.get());
    protocol::BaseIdentity base;
    if (!setup_.base_path.empty())
        base = must(protocol::base_identity_of(must(open_file(setup_.base_path, O_RDONLY)).get()));
    tell(
        connection, protocol::encode_point_reply(
                        {.geometry = setup_.geometry,
                         .base = base,
                         .epoch = ++epoch_,
                         .entries = table.size(),
                         .table = sealed.get(),
                         .memory = memory_slots_ > 0 ? memory.get() : -1,
                         .disk = disk_slots_ > 0 ? disk.get() : -1}
                    )
    );
}

protocol::RootfsStatus OverlayServer::status() {
    const std::scoped_lock lock(mutex_);
    protocol::RootfsStatus status;
    status.name = setup_.name;
    status.geometry = setup_.geometry;
    status.base_path = setup_.base_path;
    if (!setup_.base_path.empty())
        status.base =
            must(protocol::base_identity_of(must(open_file(setup_.base_path, O_RDONLY)).get()));
    for (const auto& [block, place] : places_)
        ++(place.kind == PointKind::Zero ? status.zero_blocks : status.dirty_blocks);
    const std::uint64_t block_size = setup_.geometry.block_size;
    status.dirty_bytes = status.dirty_blocks * block_size;
    status.memory_used = memory_slots_ * block_size;
    status.memory_budget = setup_.memory_blocks * block_size;
    status.disk_used = disk_slots_ * block_size;
    status.epoch = epoch_;
    status.point_held = holder_ >= 0;
    return status;
}

} // namespace thaw::fakes
