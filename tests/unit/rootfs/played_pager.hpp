// SPDX-License-Identifier: MIT
#pragma once

// The pager's side of a base that lies behind a URL, played: a real socket, real chunk maps and
// memfds, and an answer for each chunk that is wanted which the test decides on.

#include "core/memfd.hpp"
#include "core/scm.hpp"
#include "fakes/must.hpp"
#include "image/memory_map.hpp"
#include "protocol/chunk_map.hpp"
#include "protocol/chunk_uses.hpp"
#include "protocol/worker_control.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace thaw::rootfs::test {

using fakes::must;
using protocol::kChunkSize;

class PlayedPager {
public:
    enum class Answer { Land, Fail, Silence, Hang };
    using Decide = std::function<Answer(const protocol::WantChunkMessage&)>;

    PlayedPager(std::string path, std::string content)
        : path_(std::move(path)), content_(std::move(content)) {
        Fd file(::memfd_create("content", MFD_CLOEXEC));
        must(write_all(file.get(), std::string_view(content_)));
        const auto map =
            must(image::build_memory_map(file.get(), kId, [](auto, auto) { return true; }));
        index_ = Fd(::memfd_create("index", MFD_CLOEXEC));
        must(write_all(index_.get(), std::span(map)));
        forget_all();
        listener_ = must(listen_unix(path_, SOCK_SEQPACKET, 16));
        start();
    }
    ~PlayedPager() { stop(); }
    PlayedPager(const PlayedPager&) = delete;
    PlayedPager& operator=(const PlayedPager&) = delete;

    // The death of the broker: connections end, the socket stays (systemd keeps it).
    void stop() {
        ending_ = true;
        if (thread_.joinable()) thread_.join();
        client_.reset();
    }
    void start() {
        ending_ = false;
        thread_ = std::thread([this] { run(); });
    }
    // Another cache, with nothing in it.
    void forget_all() {
        const std::scoped_lock lock(mutex_);
        data_ = must(make_sized_memfd("chunks", content_.size()));
        map_.emplace(must(protocol::ChunkMap::create(id, content_.size())));
        uses_.emplace(must(protocol::ChunkUses::create(map_->chunk_count())));
    }
    void decide(Decide decide) {
        const std::scoped_lock lock(mutex_);
        decide_ = std::move(decide);
    }
    void land(std::uint64_t chunk) {
        const std::scoped_lock lock(mutex_);
        const auto size = std::min(kChunkSize, content_.size() - chunk * kChunkSize);
        EXPECT_EQ(
            ::pwrite(
                data_.get(), content_.data() + chunk * kChunkSize, size,
                static_cast<off_t>(chunk * kChunkSize)
            ),
            static_cast<ssize_t>(size)
        );
        map_->set_ready(chunk, map_->pages_of(chunk));
    }
    // As the cache takes a chunk away.
    void take_away(std::uint64_t chunk) {
        const std::scoped_lock lock(mutex_);
        map_->set_ready(chunk, 0);
        EXPECT_EQ(
            ::fallocate(
                data_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(chunk * kChunkSize), kChunkSize
            ),
            0
        );
    }
    std::uint32_t last_use(std::uint64_t chunk) { return uses_->last_use(chunk); }
    std::vector<protocol::WantChunkMessage> wanted() {
        const std::scoped_lock lock(mutex_);
        return wanted_;
    }

    static constexpr protocol::ChunkMap::ImageId kId{1, 2, 3};
    protocol::ChunkMap::ImageId id = kId; // what it says that it serves
    std::atomic<unsigned> greeted = 0;

private:
    void run() {
        while (!ending_) {
            pollfd waiting{
                .fd = client_ ? client_.get() : listener_.get(), .events = POLLIN, .revents = 0
            };
            if (::poll(&waiting, 1, 10) <= 0) continue;
            if (!client_)
                greet();
            else
                serve();
        }
    }
    void greet() {
        const std::scoped_lock lock(mutex_);
        client_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        protocol::ChunksMessage chunks;
        chunks.data = must(protocol::reopen_read_only(data_.get()));
        chunks.map = must(protocol::reopen_read_only(map_->fd()));
        chunks.index = must(index_.duplicate());
        chunks.uses = must(uses_->duplicate());
        must(protocol::send_control(client_.get(), protocol::encode(chunks)));
        ++greeted;
    }
    void serve() {
        const auto message = protocol::receive_control(client_.get());
        if (!message) {
            if (message.error().code() != EAGAIN) client_.reset();
            return;
        }
        const auto& wanted = message->want_chunk;
        Decide decide;
        {
            const std::scoped_lock lock(mutex_);
            wanted_.push_back(wanted);
            decide = decide_;
        }
        switch (decide ? decide(wanted) : Answer::Land) {
        case Answer::Land:
            land(wanted.chunk);
            return say(protocol::encode(protocol::ChunkLandedMessage{.chunk = wanted.chunk}));
        case Answer::Fail:
            return say(protocol::encode(
                protocol::ChunkFailedMessage{.chunk = wanted.chunk, .errno_value = EBADMSG}
            ));
        case Answer::Silence:
            return;
        case Answer::Hang: // the connection ends
            client_.reset();
        }
    }
    void say(const protocol::EncodedMessage& message) {
        must(protocol::send_control(client_.get(), message));
    }

    std::string path_;
    std::string content_;
    Fd index_;
    Fd data_;
    std::optional<protocol::ChunkMap> map_;
    std::optional<protocol::ChunkUses> uses_;
    Fd listener_;
    Fd client_;
    std::mutex mutex_;
    Decide decide_;
    std::vector<protocol::WantChunkMessage> wanted_;
    std::atomic<bool> ending_ = false;
    std::thread thread_;
};

} // namespace thaw::rootfs::test
