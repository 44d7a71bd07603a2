// SPDX-License-Identifier: MIT
#pragma once

// Has thaw-fetchd fetch ranges of a remote object, or of a slow file, into descriptors of ours.
// Nothing here blocks. thaw-fetchd may die at any time: the client dials in again (which starts
// it) and asks for the rest of what was under way, from the last byte that landed.
//
// One thread, that of the loop. Callbacks never run inside the call that started them; from inside
// one every call is fine, destroying the client is not.

#include "core/fd.hpp"
#include "event/event.hpp"
#include "protocol/fetch_control.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace thaw::fetch {

using protocol::SourceIdentity;

struct FetchRequest {
    std::string url;          // empty: `source` is read instead
    int source = -1;          // borrowed for the call; a file on a slow file system
    SourceIdentity identity;  // pinned: another object is SourceChanged. Of a file: its length
    std::uint64_t offset = 0; // in the source
    std::uint64_t length = 0; // bytes, at least 1
    int target = -1;          // borrowed for the call; memfd or file, opened for writing
    std::uint64_t target_offset = 0;
    // A target with O_DIRECT wants multiples of 4096 for both offsets and the length: it is written
    // in whole blocks of 4096 up to 256 KiB, but for the last bytes of a range.
};

struct FetchEnd {
    // The name (Error::bus_name()) is one of api/source_errors.hpp.
    Result<> result;
    std::uint64_t landed = 0; // fetch: bytes from the start of the range that are written
    std::uint32_t tries = 0;  // how often the server was asked
    bool retryable = false;   // a failure that may go well later
    SourceIdentity identity{
    }; // probe and put: what is there; empty tags after a put that gave none
};

class FetchClient {
public:
    // So many deaths of thaw-fetchd while a request was under way fail it (SourceUnreachable).
    static constexpr unsigned kMostDeaths = 3;
    // Requests that thaw-fetchd has at the same time; the others wait here, first come first
    // served.
    static constexpr std::size_t kMostSent = 32;
    // Without a request for so long the connection is closed, so that thaw-fetchd may end.
    static constexpr Microseconds kIdle = 10 * kUsecPerSec;

    // How much of the range has landed, from its start; only grows.
    using OnProgress = std::function<void(std::uint64_t landed)>;
    // Called once. From then on nothing writes to the target any more.
    using OnEnd = std::function<void(FetchEnd)>;

    // Connects with the first request. `loop` must outlive the client.
    static Result<std::unique_ptr<FetchClient>>
    create(EventLoop& loop, std::string socket_path = protocol::kFetchSocket);
    // Forgets all requests without calling anybody; thaw-fetchd gives them up as soon as it sees
    // the connection end, which may be a moment later.
    ~FetchClient();
    FetchClient(const FetchClient&) = delete;
    FetchClient& operator=(const FetchClient&) = delete;

    // Both descriptors are duplicated. EMFILE; EINVAL for a request that makes no sense.
    Result<std::uint64_t> fetch(const FetchRequest& request, OnProgress on_progress, OnEnd on_end);
    Result<std::uint64_t> probe(const std::string& url, OnEnd on_end);
    // The first `length` bytes of `source` (borrowed) become the object at `url`. Progress is what
    // was handed to the connection, and begins anew with each try.
    Result<std::uint64_t>
    put(const std::string& url, int source, std::uint64_t length, OnProgress on_progress,
        OnEnd on_end);
    // on_end still comes: SourceCanceled, or what happened before. Unknown ids are ignored.
    void cancel(std::uint64_t id);

    std::size_t under_way() const { return requests_.size(); }
    // Connections that ended with requests on them.
    std::uint64_t deaths() const { return deaths_; }

private:
    struct Request {
        protocol::FetchMessage message;
        std::uint64_t offset = 0; // as asked for; the message has what is left
        std::uint64_t length = 0;
        std::uint64_t target_offset = 0;
        std::uint64_t base = 0;   // landed when it was last sent
        std::uint64_t landed = 0; // in all
        unsigned deaths = 0;
        bool sent = false;
        bool canceled = false;
        OnProgress on_progress;
        OnEnd on_end;
    };

    FetchClient(EventLoop& loop, std::string path) : loop_(loop), path_(std::move(path)) {}
    Result<> init();
    Result<std::uint64_t> add(Request request);
    void pump();
    Result<> connect();
    Result<bool> send_all();
    Result<bool> send_one(const protocol::FetchMessage& message);
    void on_io(std::uint32_t events);
    Result<> handle(protocol::FetchMessage message);
    void lost(const std::string& why);
    void finish(std::uint64_t id, FetchEnd end);
    static bool is_complete(const Request& request);

    EventLoop& loop_;
    std::string path_;
    Fd socket_;
    EventSource io_;
    EventSource pump_;
    EventSource timer_; // the next attempt to connect, or the end of an idle connection
    std::uint64_t next_id_ = 1;
    std::map<std::uint64_t, Request> requests_;
    std::deque<std::uint64_t> waiting_; // to be sent, in order
    std::deque<std::uint64_t> cancels_; // to be sent
    std::size_t sent_ = 0;
    unsigned failed_connects_ = 0;
    std::uint64_t deaths_ = 0;
};

} // namespace thaw::fetch
