// SPDX-License-Identifier: MIT
#include "control_server.hpp"

#include "core/file.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::rootfs {

namespace {

// Tools of one admin at a time; more are turned away.
constexpr std::size_t kMaxConnections = 16;

bool may_connect(int socket) {
    struct ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    return peer.uid == 0 || peer.uid == ::geteuid();
}

// A description of its own, which cannot write.
Result<Fd> reopen_for_reading(int fd) {
    return open_file(fmt::format("/proc/self/fd/{}", fd), O_RDONLY);
}

std::vector<protocol::PointEntry> entries_of(const std::vector<MapRun>& runs) {
    std::vector<protocol::PointEntry> entries;
    entries.reserve(runs.size());
    for (const auto& run : runs) {
        const auto kind = run.location.kind == Kind::Memory ? protocol::PointKind::Memory
                          : run.location.kind == Kind::Disk ? protocol::PointKind::Disk
                                                            : protocol::PointKind::Zero;
        entries.push_back({
            .first_block = run.block,
            .count = run.count,
            .kind = kind,
            .file_offset = std::uint64_t{run.location.slot} << kBlockShift,
        });
    }
    return entries;
}

} // namespace

ControlServer::ControlServer(
    EventLoop& loop, Overlay& overlay, const Settings& settings,
    const std::atomic<unsigned>& clients, Fd listening, protocol::BaseIdentity base
)
    : loop_(loop), overlay_(overlay), settings_(settings), clients_(clients),
      listening_(std::move(listening)), base_(base) {}

Result<std::unique_ptr<ControlServer>> ControlServer::create(
    EventLoop& loop, Overlay& overlay, const Settings& settings,
    const std::atomic<unsigned>& clients, Fd listening
) {
    THAW_CHECK(set_nonblocking(listening.get(), true));
    THAW_TRY(const protocol::BaseIdentity base, overlay.base().identity());
    std::unique_ptr<ControlServer> server(
        new ControlServer(loop, overlay, settings, clients, std::move(listening), base)
    );
    THAW_TRY(
        server->accept_, loop.add_io(
                             server->listening_.get(), EPOLLIN,
                             [&self = *server](std::uint32_t) { self.accept_one(); },
                             "rootfs control", priority::kNotify
                         )
    );
    return server;
}

void ControlServer::accept_one() {
    Fd socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket || connections_.size() >= kMaxConnections || !may_connect(socket.get())) return;
    const int number = socket.get();
    auto source = loop_.add_io(
        number, EPOLLIN, [this, number](std::uint32_t) { on_request(number); },
        "rootfs control connection", priority::kNotify
    );
    if (!source) return log_warning("rootfs control: {}", source.error().message());
    connections_.emplace(
        number, Connection{.socket = std::move(socket), .source = std::move(*source), .point = {}}
    );
}

void ControlServer::on_request(int socket) {
    auto& connection = connections_.at(socket);
    const auto request = protocol::receive_rootfs_request(socket);
    if (!request && request.error().code() == EAGAIN) return;
    Result<> done;
    if (request) {
        done = answer(connection, *request);
    } else if (request.error().code() == EBADMSG) {
        done = protocol::send_rootfs(
            socket, protocol::encode_rootfs_failure(
                        protocol::rootfs_error::kBadRequest, EBADMSG, request.error().message()
                    )
        );
    } else {
        done = std::unexpected(request.error());
    }
    // Gone, or too slow to take an answer. A point that it held ends here.
    if (!done) connections_.erase(socket);
}

Result<> ControlServer::answer(Connection& connection, protocol::RootfsType request) {
    if (request == protocol::RootfsType::Status)
        return protocol::send_rootfs(
            connection.socket.get(), protocol::encode_status_reply(status())
        );
    auto done = answer_point(connection);
    if (done) return done;
    if (done.error().code() == EPIPE || done.error().code() == ECONNRESET) return done;
    connection.point.reset();
    const bool busy = done.error().code() == EBUSY;
    return protocol::send_rootfs(
        connection.socket.get(),
        protocol::encode_rootfs_failure(
            busy ? protocol::rootfs_error::kBusy : protocol::rootfs_error::kPointFailed,
            done.error().code(), done.error().message()
        )
    );
}

Result<> ControlServer::answer_point(Connection& connection) {
    if (connection.point) return fail(EBUSY, "this connection holds a point");
    THAW_TRY(auto taken, overlay_.take_point());
    connection.point.emplace(std::move(taken));
    const auto entries = entries_of(connection.point->runs());
    THAW_TRY(const Fd table, protocol::make_point_table(entries));
    const auto file_of = [&](Kind kind, protocol::PointKind as) -> Result<Fd> {
        const bool used =
            std::ranges::any_of(entries, [&](const auto& entry) { return entry.kind == as; });
        if (!used) return Fd();
        return reopen_for_reading(overlay_.descriptor(kind));
    };
    THAW_TRY(const Fd memory, file_of(Kind::Memory, protocol::PointKind::Memory));
    THAW_TRY(const Fd disk, file_of(Kind::Disk, protocol::PointKind::Disk));
    const protocol::PointView view{
        .geometry = {.size = overlay_.size(), .block_size = kBlockSize},
        .base = base_,
        .epoch = connection.point->number(),
        .entries = entries.size(),
        .table = table.get(),
        .memory = memory.get(),
        .disk = disk.get(),
    };
    return protocol::send_rootfs(connection.socket.get(), protocol::encode_point_reply(view));
}

protocol::RootfsStatus ControlServer::status() const {
    const auto now = overlay_.status();
    return {
        .name = settings_.name,
        .geometry = {.size = overlay_.size(), .block_size = kBlockSize},
        .base = base_,
        .base_path = settings_.base,
        .base_image = settings_.base_image,
        .dirty_blocks = now.dirty_blocks,
        .dirty_bytes = (now.dirty_blocks - now.zero_blocks) * kBlockSize,
        .zero_blocks = now.zero_blocks,
        .memory_used = now.memory_used,
        .memory_budget = overlay_.durable() ? 0 : settings_.memory,
        .disk_used = now.disk_used,
        .disk_budget = settings_.disk_max,
        .durable = overlay_.durable(),
        .point_held = now.point_held,
        .epoch = now.points,
        .clients = clients_,
        .reads = now.reads,
        .read_bytes = now.read_bytes,
        .writes = now.writes,
        .written_bytes = now.written_bytes,
        .flushes = now.flushes,
        .failed_reads = now.failed_reads,
        .failed_writes = now.failed_writes,
        .spilled_bytes = now.spilled,
    };
}

} // namespace thaw::rootfs
