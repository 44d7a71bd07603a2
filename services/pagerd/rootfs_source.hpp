// SPDX-License-Identifier: MIT
#pragma once

// The root file system of one VM that lies behind a URL: the server of its overlay connects here
// and reads the cache of remote images. Like a session it survives the broker (socket and
// description are in the descriptor store), but nothing depends on it while the broker is dead
// except chunks that are not there yet.
//
// Servers are not trusted with holding chunks: they get descriptors that can only be read, note in
// a table of their own when they used what, and find out by the chunk map's generations that
// something was taken away while they read it.

#include "broker.hpp"
#include "chunk_image.hpp"
#include "log/log.hpp"
#include "peer_check.hpp"
#include "protocol/chunk_uses.hpp"
#include "protocol/worker_control.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace thaw::pagerd {

struct RootfsDescription {
    std::string vm;
    std::string unit; // of the server
    std::string id;   // of the bytes, in the cache
    std::string image_name;
};

class RootfsSource final : private ChunkUser {
public:
    // A new one: makes the socket and stores it. `image` stays for as long as this lives.
    static Result<std::unique_ptr<RootfsSource>>
    create(Broker& broker, RootfsDescription description, ChunkImage& image);
    // What an earlier broker stored under `key`. ENOENT: the cache of its image was not kept.
    static Result<std::unique_ptr<RootfsSource>>
    adopt(Broker& broker, const std::string& key, const Fd& description, Fd listener);
    RootfsSource(const RootfsSource&) = delete;
    RootfsSource& operator=(const RootfsSource&) = delete;
    // Connections end; what is in the store stays.
    ~RootfsSource() override;

    // Takes it out of the store and removes the socket, for good.
    void release();

    const RootfsDescription& description() const { return description_; }
    std::string socket_path() const;
    std::size_t clients() const { return clients_.size(); }
    LogFields log_fields() const;

private:
    struct Client {
        Fd connection;
        std::unique_ptr<PeerCheck> check; // until it is known who it is
        EventSource deadline;
        EventSource readable;
    };

    RootfsSource(
        Broker& broker, std::string key, RootfsDescription description, ChunkImage& image,
        protocol::ChunkUses uses, Fd listener
    );
    static Result<std::unique_ptr<RootfsSource>> make(
        Broker& broker, std::string key, RootfsDescription description, ChunkImage& image,
        Fd listener
    );
    Result<> keep();
    void on_connection();
    Result<> add_client(Fd connection);
    void on_peer(std::uint64_t number, const Result<Peer>& peer);
    Result<> greet(std::uint64_t number);
    void on_readable(std::uint64_t number);
    void drop(std::uint64_t number, const Error& why);
    void tell_all(const protocol::EncodedMessage& message);

    const std::string& image_name() const override { return description_.image_name; }
    bool is_reading(std::uint64_t) const override { return false; }
    std::uint32_t last_use(std::uint64_t chunk) const override { return uses_.last_use(chunk); }
    void chunk_landed(std::uint32_t chunk) override;
    void chunk_failed(std::uint32_t chunk, int errno_value) override;

    Broker& broker_;
    std::string key_; // in the store
    RootfsDescription description_;
    ChunkImage& image_;
    protocol::ChunkUses uses_;
    Fd listener_;
    EventSource accept_;
    std::uint64_t next_client_ = 0;
    std::map<std::uint64_t, Client> clients_;
    Microseconds tell_again_ = 0; // of connections that were turned away
};

} // namespace thaw::pagerd
