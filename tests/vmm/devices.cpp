// SPDX-License-Identifier: MIT
#include "devices.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace thaw::standin {
namespace {

Result<Fd> bind_vsock(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return fail("Error creating vsock backend: UnixBind: path must be shorter than SUN_LEN");
    }
    std::memcpy(address.sun_path, path.c_str(), path.size());
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket ||
        ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(socket.get(), 128) != 0) {
        // The VMM prints the error of its runtime in this form.
        return fail(fmt::format(
            "Error creating vsock backend: UnixBind(Os {{ code: {}, kind: {}, "
            "message: \"{}\" }})",
            errno, errno == EADDRINUSE ? "AddrInUse" : "Other", std::strerror(errno)
        ));
    }
    return socket;
}

} // namespace

Result<void> Devices::restore(const SnapshotState& state) {
    for (const auto& drive : state.drives) {
        Fd file(::open(drive.path.c_str(), (drive.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
        if (!file) {
            return fail(fmt::format(
                "Virtio backend error: Error manipulating the backing file: {} {}", os_error(errno),
                drive.path
            ));
        }
        drives_.push_back({drive.drive_id, drive.path, std::move(file)});
    }
    for (const auto& interface : state.interfaces) {
        interfaces_.push_back(
            {{"iface_id", interface.iface_id}, {"host_dev_name", interface.host_dev_name}}
        );
    }
    if (state.vsock_path) {
        auto socket = bind_vsock(*state.vsock_path);
        if (!socket) {
            return fail(socket.error());
        }
        vsock_ = std::move(*socket);
        vsock_path_ = *state.vsock_path;
    }
    return {};
}

nlohmann::json Devices::report() const {
    nlohmann::json out = {{"network_interfaces", interfaces_}, {"drives", nlohmann::json::array()}};
    for (const auto& drive : drives_) {
        out["drives"].push_back({{"drive_id", drive.drive_id}, {"path_on_host", drive.path}});
    }
    if (vsock_) {
        out["vsock"] = {{"uds_path", vsock_path_}};
    }
    return out;
}

} // namespace thaw::standin
