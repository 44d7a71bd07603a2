// SPDX-License-Identifier: MIT
// A message between thaw-fetchd and its clients, with any number of descriptors.
#include "core/file.hpp"
#include "protocol/fetch_control.hpp"
#include "target.hpp"

#include <fcntl.h>

using namespace thaw;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    std::vector<Fd> fds;
    for (unsigned i = 0; i < data[0] % 4U; ++i) {
        auto fd = open_file("/dev/null", O_RDONLY);
        if (fd) fds.push_back(std::move(*fd));
    }
    const auto message =
        protocol::decode_fetch(std::as_bytes(std::span(data, size)).subspan(1), std::move(fds));
    if (!message) return 0;
    // What was taken can be said again.
    const auto again = protocol::encode_fetch(*message);
    THAW_INVARIANT(again.has_value() && again->data.size() + 1 == size);
    return 0;
}
