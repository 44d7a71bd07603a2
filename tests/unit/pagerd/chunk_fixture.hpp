// SPDX-License-Identifier: MIT
#pragma once

// The cache of remote images with all that it works with: thaw-fetchd itself, a real web server
// with a proxy that spoils answers, real files on disk. Only the workers are played.

#include "chunk_cache.hpp"
#include "core/file.hpp"
#include "fakes/bus_fixture.hpp"
#include "fakes/fake_guard.hpp"
#include "fakes/must.hpp"
#include "fakes/socket_activated.hpp"
#include "fakes/web_lab.hpp"
#include "fetch/file_identity.hpp"
#include "image/memory_map.hpp"
#include "protocol/session_memory.hpp"
#include "temporary_directory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace thaw::pagerd {

using fakes::must;
using protocol::kChunkPages;
using protocol::kChunkSize;

// A session as the cache sees it; reads as a worker does.
class User final : public ChunkUser {
public:
    User(const std::string& name, const image::ImageId& id, std::uint64_t size)
        : memory_(must(protocol::SessionMemory::create(info(name, id, size)))) {}

    const std::string& image_name() const override { return memory_.info().image_name; }
    bool is_reading(std::uint64_t chunk) const override {
        return memory_.state().used_chunk == chunk + 1;
    }
    std::uint32_t last_use(std::uint64_t chunk) const override { return memory_.chunk_use(chunk); }
    void chunk_landed(std::uint32_t chunk) override { ++landed[chunk]; }
    void chunk_failed(std::uint32_t chunk, int errno_value) override {
        failed[chunk] = errno_value;
    }
    void note_use(std::uint64_t chunk) { memory_.note_chunk_use(chunk, now_monotonic() * 1000); }
    void publish(std::uint64_t chunk) { memory_.state().used_chunk = chunk + 1; }
    void clear() { memory_.state().used_chunk = 0; }

    std::map<std::uint32_t, unsigned> landed;
    std::map<std::uint32_t, int> failed;

private:
    static protocol::SessionInfo
    info(const std::string& name, const image::ImageId& id, std::uint64_t size) {
        protocol::SessionInfo info;
        info.session_id = {1, 2, 3};
        info.image_id = id;
        info.name = name;
        info.unit = "thaw-firecracker@test.service";
        info.image_name = "web";
        info.memory_size = size;
        info.flags = protocol::kFlagChunked;
        return info;
    }
    protocol::SessionMemory memory_;
};

class ChunkTest : public test::BusTest {
protected:
    static constexpr std::uint64_t kSize = 6 * kChunkSize - (1 << 20); // the last chunk is short
    static constexpr std::uint32_t kAll = kChunkPages;

    static void SetUpTestSuite() {
        if (!fakes::WebLab::available()) return;
        web_folder_ = std::make_unique<test::TemporaryDirectory>();
        web_ = must(fakes::WebLab::create(web_folder_->path(), FAULT_PROXY));
    }
    static void TearDownTestSuite() {
        web_.reset();
        web_folder_.reset();
    }

    void SetUp() override {
        if (!web_) GTEST_SKIP() << "needs nginx, python3 and openssl";
        test::BusTest::SetUp();
        if (IsSkipped()) return;
        bus_.emplace(connect());
        web_->clear();
        web_->forget();
        for (std::size_t i = 0; i < id_.size(); ++i)
            id_[i] = static_cast<std::uint8_t>(i + 1);
        make_image();
        folder_.write(
            "fetchd.conf", "[Fetch]\nConnectTimeoutSec=2s\nStallTimeoutSec=300ms\nTimeoutSec=20s\n"
        );
        std::filesystem::create_directories(folder_ / "credentials");
        fetchd_ = must(fakes::SocketActivated::create(
            *loop, folder_ / "fetch.sock", SOCK_SEQPACKET,
            {
                .program = FETCHD,
                .descriptors = {},
                .environment =
                    {{"THAW_FETCHD_CONFIG", folder_ / "fetchd.conf"},
                     {"CREDENTIALS_DIRECTORY", folder_ / "credentials"}},
            }
        ));
    }
    void TearDown() override {
        users_.clear();
        cache_.reset();
        fetchd_.reset();
        bus_.reset();
    }

    // Noise, but for a chunk's worth of zeros that nobody ever asks for.
    void make_image() {
        memory_ = Fd(::memfd_create("image", MFD_CLOEXEC));
        std::minstd_rand random(7);
        content_.resize(kSize);
        for (auto& c : content_)
            c = static_cast<char>(random() >> 8);
        ASSERT_TRUE(write_all(memory_.get(), std::string_view(content_)));
        index_ = Fd(::memfd_create("map", MFD_CLOEXEC));
        const auto map =
            must(image::build_memory_map(memory_.get(), id_, [](auto, auto) { return true; }));
        ASSERT_TRUE(write_all(index_.get(), std::span(map)));
        std::ofstream(web_->www("/memory"), std::ios::binary) << content_;
    }

    // `chunks` in memory, `spilled` on disk.
    void make_cache(
        std::uint64_t chunks, std::uint64_t spilled = 0, std::uint64_t keep_free = 0,
        CacheBacking backing = CacheBacking::Auto
    ) {
        cache_ = must(ChunkCache::create(
            *loop, *bus_, store_,
            {
                .budget =
                    {.backing = spilled > 0 ? backing : CacheBacking::Memory,
                     .memory = chunks * kChunkSize,
                     .disk = spilled * kChunkSize},
                .directory = spilled > 0 ? folder_.path() : std::string(),
                .keep_free = keep_free,
                .idle = 600 * kUsecPerSec,
                .fetch_socket = fetchd_->path(),
            }
        ));
    }
    // The identity that the web server gives it now.
    RemoteMemory remote(const std::string& url) {
        auto client = must(fetch::FetchClient::create(*loop, fetchd_->path()));
        std::optional<fetch::FetchEnd> end;
        must(client->probe(web_->url("/memory"), [&](fetch::FetchEnd got) { end = std::move(got); })
        );
        EXPECT_TRUE(fakes::run_until(*loop, [&] { return end.has_value(); }));
        EXPECT_TRUE(end->result) << end->result.error().message();
        return {.url = url, .file = {}, .identity = end->identity};
    }
    ChunkImage& open() { return open(remote(web_->proxied("/memory"))); }
    ChunkImage& open(RemoteMemory remote) {
        auto* image =
            must(cache_->open(image::format_id(id_), std::move(remote), index_.get(), kSize));
        web_->forget();
        return *image;
    }
    User& user(ChunkImage& image) {
        const auto name = fmt::format("vm{}", users_.size());
        users_.push_back(std::make_unique<User>(name, id_, kSize));
        cache_->attach(image, *users_.back());
        return *users_.back();
    }
    void want(ChunkImage& image, User& user, std::uint32_t chunk, std::uint32_t pages = kAll) {
        cache_->want(image, user, {.chunk = chunk, .pages = pages, .ahead = 0});
    }
    // Until the user was told that the chunk is there, and reads it.
    bool get(ChunkImage& image, User& user, std::uint32_t chunk) {
        const auto before = user.landed[chunk];
        want(image, user, chunk);
        const bool there =
            run_until([&] { return user.landed[chunk] > before || user.failed.contains(chunk); });
        user.note_use(chunk);
        return there && !user.failed.contains(chunk) && is_right(image, chunk);
    }
    template <class Condition>
    bool run_until(Condition condition) {
        return fakes::run_until(*loop, condition, 20 * kUsecPerSec);
    }
    // Whether memory holds what the image has there.
    bool is_right(ChunkImage& image, std::uint64_t chunk) const {
        const std::uint64_t size = image.bytes_of(chunk);
        std::string bytes(size, '\0');
        const auto at = static_cast<off_t>(chunk * kChunkSize);
        return image.map().is_whole(chunk) &&
               ::pread(image.files()->data.get(), bytes.data(), size, at) ==
                   static_cast<ssize_t>(size) &&
               content_.compare(chunk * kChunkSize, size, bytes) == 0;
    }
    // What the server was asked for: how often a GET began in that chunk.
    std::size_t gets(std::uint64_t chunk) const {
        std::size_t count = 0;
        for (const auto& request : web_->requests()) {
            const std::string range = request.value("range", "");
            if (request.value("method", "") != "GET" || !range.starts_with("bytes=")) continue;
            count += std::stoull(range.substr(6)) / kChunkSize == chunk ? 1 : 0;
        }
        return count;
    }

    static inline std::unique_ptr<test::TemporaryDirectory> web_folder_;
    static inline std::unique_ptr<fakes::WebLab> web_;
    test::TemporaryDirectory folder_;
    std::optional<Bus> bus_;
    image::ImageId id_{};
    std::string content_;
    Fd memory_;
    Fd index_;
    FdStore store_{4096, 0};
    std::unique_ptr<fakes::SocketActivated> fetchd_;
    std::unique_ptr<ChunkCache> cache_;
    std::vector<std::unique_ptr<User>> users_;
};

} // namespace thaw::pagerd
