// SPDX-License-Identifier: MIT
// A session of a remote image: between its worker, who wants pages, and the cache, who gets them.
#include "api/pager1.hpp"
#include "core/text.hpp"
#include "session.hpp"

#include <utility>

namespace thaw::pagerd {

Result<> Session::attach_chunks() {
    const auto& info = memory_.info();
    if ((info.flags & protocol::kFlagChunked) == 0) return {};
    chunks_ = broker_.chunks->find(hex_encode(info.image_id.data(), info.image_id.size()));
    if (chunks_ == nullptr)
        return thaw::fail(ENOENT, "{}: the cache of its image was not kept", name());
    broker_.chunks->attach(*chunks_, *this);
    return {};
}

void Session::detach_chunks() {
    if (chunks_ != nullptr) broker_.chunks->detach(*std::exchange(chunks_, nullptr), *this);
}

void Session::on_want_chunk(const protocol::WantChunkMessage& wanted) {
    if (chunks_ == nullptr) return chunk_failed(wanted.chunk, ENOENT);
    broker_.chunks->want(*chunks_, *this, wanted);
}

bool Session::is_reading(std::uint64_t chunk) const {
    return memory_.state().used_chunk.load(std::memory_order_seq_cst) == chunk + 1;
}

std::uint32_t Session::last_use(std::uint64_t chunk) const {
    return memory_.chunk_use(chunk);
}

void Session::chunk_landed(std::uint32_t chunk) {
    if (worker_) worker_->tell(protocol::encode(protocol::ChunkLandedMessage{.chunk = chunk}));
}

void Session::chunk_failed(std::uint32_t chunk, int errno_value) {
    if (!worker_) return;
    worker_->tell(
        protocol::encode(protocol::ChunkFailedMessage{.chunk = chunk, .errno_value = errno_value})
    );
}

} // namespace thaw::pagerd
