// SPDX-License-Identifier: MIT
#include "nbd_client.hpp"

#include <gtest/gtest.h>

#include <libnbd.h>

#include <cerrno>

namespace thaw::rootfs::test {

namespace {

int outcome(int result) {
    if (result == 0) return 0;
    const int failed = nbd_get_errno();
    return failed != 0 ? failed : EIO;
}

} // namespace

NbdClient::NbdClient(const std::string& socket) : nbd_(nbd_create()) {
    nbd_add_meta_context(nbd_, LIBNBD_CONTEXT_BASE_ALLOCATION);
    EXPECT_EQ(nbd_connect_unix(nbd_, socket.c_str()), 0) << nbd_get_error();
}

NbdClient::~NbdClient() {
    nbd_close(nbd_);
}

int NbdClient::read(std::uint64_t offset, std::span<std::byte> out) {
    return outcome(nbd_pread(nbd_, out.data(), out.size(), offset, 0));
}
int NbdClient::write(std::uint64_t offset, std::span<const std::byte> data, bool fua) {
    const std::uint32_t flags = fua ? LIBNBD_CMD_FLAG_FUA : 0;
    return outcome(nbd_pwrite(nbd_, data.data(), data.size(), offset, flags));
}
int NbdClient::flush() {
    return outcome(nbd_flush(nbd_, 0));
}
int NbdClient::zero(std::uint64_t offset, std::uint64_t length) {
    return outcome(nbd_zero(nbd_, length, offset, 0));
}
int NbdClient::trim(std::uint64_t offset, std::uint64_t length) {
    return outcome(nbd_trim(nbd_, length, offset, 0));
}

std::vector<NbdClient::Extent> NbdClient::extents(std::uint64_t offset, std::uint64_t length) {
    std::vector<Extent> all;
    const auto take = [](void* user, const char*, std::uint64_t, std::uint32_t* entries,
                         std::size_t count, int*) {
        for (std::size_t i = 0; i + 1 < count; i += 2)
            static_cast<std::vector<Extent>*>(user)->push_back({entries[i], entries[i + 1]});
        return 0;
    };
    const nbd_extent_callback callback{.callback = take, .user_data = &all, .free = nullptr};
    EXPECT_EQ(nbd_block_status(nbd_, length, offset, callback, 0), 0) << nbd_get_error();
    return all;
}

} // namespace thaw::rootfs::test
