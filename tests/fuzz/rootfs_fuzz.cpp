// SPDX-License-Identifier: MIT
// Messages of the control socket of a rootfs overlay, to either side, with descriptors. The table
// of a point is what follows the message; the first two bytes say where that is.
#include "core/file.hpp"
#include "protocol/rootfs_control.hpp"
#include "target.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>

using namespace thaw;

namespace {

constexpr std::size_t kEntriesAt = 16 + 48; // of a point's answer

std::vector<Fd> descriptors(std::span<const std::byte> table) {
    std::vector<Fd> fds;
    const std::size_t count = table.size() / sizeof(protocol::PointEntry);
    std::vector<protocol::PointEntry> entries(count);
    if (count > 0) std::memcpy(entries.data(), table.data(), count * sizeof entries[0]);
    if (auto sealed = protocol::make_point_table(entries)) fds.push_back(std::move(*sealed));
    fds.emplace_back(memfd_create("memory", MFD_CLOEXEC));
    fds.emplace_back(memfd_create("disk", MFD_CLOEXEC));
    return fds;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const auto input = std::as_bytes(std::span(data, size)).subspan(2);
    const std::size_t split = std::min<std::size_t>(data[0] | data[1] << 8, input.size());
    std::vector<std::byte> message(input.begin(), input.begin() + static_cast<long>(split));
    const auto table = input.subspan(split);
    // As many entries as the table has, and the right size: no input would get past that otherwise.
    if (message.size() >= kEntriesAt + 8) {
        const std::uint64_t entries = table.size() / sizeof(protocol::PointEntry);
        const auto whole = static_cast<std::uint32_t>(message.size());
        const std::uint32_t fds = 3;
        std::memcpy(&message[kEntriesAt], &entries, sizeof entries);
        std::memcpy(&message[8], &whole, sizeof whole);
        std::memcpy(&message[12], &fds, sizeof fds);
    }
    static_cast<void>(protocol::decode_rootfs_request(message, {}).has_value());
    if (const auto status = protocol::decode_status_reply(message, {}))
        fuzz::require(
            protocol::parse_rootfs_status(protocol::format_rootfs_status(*status)).has_value()
        );
    const auto point = protocol::decode_point_reply(message, descriptors(table));
    if (point)
        fuzz::require(protocol::check_point_table(point->table, point->geometry).has_value());
    return 0;
}
