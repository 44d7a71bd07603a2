// SPDX-License-Identifier: MIT
#pragma once

// Checksums over a stream of data, one per unit of a fixed size.

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace thaw::delta {

class CheckStream {
public:
    explicit CheckStream(std::uint32_t unit) : unit_(unit), state_(XXH3_createState()) {
        if (!state_) throw std::bad_alloc();
        XXH3_64bits_reset(state_.get());
    }

    void feed(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const auto part = bytes.first(std::min<std::size_t>(unit_ - filled_, bytes.size()));
            XXH3_64bits_update(state_.get(), part.data(), part.size());
            filled_ += static_cast<std::uint32_t>(part.size());
            if (filled_ == unit_) close();
            bytes = bytes.subspan(part.size());
        }
    }
    // Of everything so far; the last unit may be short.
    std::vector<std::uint64_t> finish() {
        if (filled_ > 0) close();
        return std::exchange(checks_, {});
    }

private:
    struct Free {
        void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
    };
    void close() {
        checks_.push_back(XXH3_64bits_digest(state_.get()));
        XXH3_64bits_reset(state_.get());
        filled_ = 0;
    }

    std::uint32_t unit_;
    std::uint32_t filled_ = 0;
    std::unique_ptr<XXH3_state_t, Free> state_;
    std::vector<std::uint64_t> checks_;
};

} // namespace thaw::delta
