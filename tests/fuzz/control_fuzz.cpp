// SPDX-License-Identifier: MIT
// A message of the control channel between broker and worker, with any number of descriptors.
#include "core/file.hpp"
#include "protocol/worker_control.hpp"
#include "target.hpp"

#include <fcntl.h>

using namespace thaw;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    std::vector<Fd> fds;
    for (unsigned i = 0; i < data[0] % 24U; ++i) {
        auto fd = open_file("/dev/null", O_RDONLY);
        if (fd) fds.push_back(std::move(*fd));
    }
    const auto message =
        protocol::decode(std::as_bytes(std::span(data, size)).subspan(1), std::move(fds));
    static_cast<void>(message.has_value());
    return 0;
}
