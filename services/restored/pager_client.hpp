// SPDX-License-Identifier: MIT
#pragma once

// Client of org.thaw.pager1. Signals are hints: whatever comes, the session's properties are read
// again, so that a forged or missed signal does no harm. The broker may go away and come back at
// any time; watches outlive that. Only create_session(), close_session(), list_sessions() and those
// of root file systems start a broker that is not there.

#include "bus/bus.hpp"
#include "core/fd.hpp"
#include "event/event.hpp"
#include "protocol/fetch_control.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::restore {

struct PagerSession {
    bool present = false;
    std::string state; // listening handshaking serving complete failed closed
    std::string error_name;
    std::string error_message;
    bool stop_pending = false;
    std::string image_id; // hex
    std::string populate; // none running done failed
    std::string tracking; // off arming armed failed

    bool serves() const { return present && (state == "serving" || state == "complete"); }
    bool has_failed() const { return present && (state == "failed" || stop_pending); }
    bool operator==(const PagerSession&) const = default;
};

// Memory that is fetched when it is needed.
struct RemoteMemory {
    std::string url;  // empty: the file
    int file_fd = -1; // on a slow file system; the message keeps its own copy
    protocol::SourceIdentity identity;
};

struct SessionRequest {
    std::string name;
    std::string unit;
    int memory_fd = -1; // the message keeps its own copies
    int map_fd = -1;
    int working_set_fd = -1; // -1: none
    std::string image_id;
    std::string image_name;
    std::uint64_t memory_size = 0;
    std::uint64_t page_size = 0;
    std::string on_pager_loss; // empty: the pager's default
    bool prefetch = true;
    std::optional<std::uint64_t> prefetch_rate; // nothing: the pager's defaults
    std::optional<std::uint64_t> replay_budget;
    std::optional<std::uint64_t> sequential_budget;
    bool recording = false; // first touches are kept; take_recording() brings them
    bool track = false;     // what the guest writes; take_dirty() brings it
    // Of a difference: its table of layers, and the memory files of the images below.
    int layers_fd = -1;
    std::vector<int> base_fds{};
    std::optional<RemoteMemory> remote{}; // then there is no memory_fd
};

// A root file system that lies behind a URL, for the server of one VM's overlay.
struct RootfsServing {
    std::string vm;
    std::string unit; // of the server
    std::string id;   // in the map, hex
    std::string image_name;
    int map_fd = -1; // the message keeps its own copy
    RemoteMemory remote;
};

struct CreatedSession {
    std::string path;
    std::string socket;
};

struct SessionEntry {
    std::string name;
    std::string unit;
    std::string state;
};

// Owns an outstanding call or a watch; destroying it forgets the handler.
class PagerOperation {
public:
    virtual ~PagerOperation() = default;
};
using PagerHandle = std::unique_ptr<PagerOperation>;

class PagerClient {
public:
    // `bus` and `loop` must outlive the client, and the client its operations.
    PagerClient(Bus& bus, EventLoop& loop) : bus_(bus), loop_(loop) {}
    PagerClient(const PagerClient&) = delete;
    PagerClient& operator=(const PagerClient&) = delete;

    // Installs matches; calls nobody. `appeared` runs whenever a broker shows up on the bus.
    Result<> start(std::function<void()> appeared);

    [[nodiscard]] PagerHandle create_session(
        const SessionRequest& request, std::function<void(Result<CreatedSession>)> handler
    );
    // A session that does not exist counts as closed.
    [[nodiscard]] PagerHandle
    close_session(const std::string& name, std::function<void(Result<>)> handler);
    [[nodiscard]] PagerHandle
    list_sessions(std::function<void(Result<std::vector<SessionEntry>>)> handler);
    // present = false for a session that does not exist; an Error when nobody answers.
    [[nodiscard]] PagerHandle
    read_session(const std::string& name, std::function<void(Result<PagerSession>)> handler);
    // One of the session's numbers, e.g. "Faults". ENXIO when there is no such session.
    [[nodiscard]] PagerHandle read_number(
        const std::string& name, const char* property,
        std::function<void(Result<std::uint64_t>)> handler
    );
    // Session.Complete, Quiesce, Resume, StartTracking or StopTracking.
    [[nodiscard]] PagerHandle change_session(
        const std::string& name, const char* member, std::function<void(Result<>)> handler
    );
    // What was recorded so far, as a memfd of image/access_log.hpp's raw form.
    [[nodiscard]] PagerHandle
    take_recording(const std::string& name, std::function<void(Result<Fd>)> handler);
    // Pages that may have changed since tracking began, as a memfd of image/page_bitmap.hpp's form.
    [[nodiscard]] PagerHandle
    take_dirty(const std::string& name, std::function<void(Result<Fd>)> handler);
    // The path of the socket where it is served (pager_client_rootfs.cpp).
    [[nodiscard]] PagerHandle
    serve_rootfs(const RootfsServing& wanted, std::function<void(Result<std::string>)> handler);
    // Content when there is nothing to end.
    [[nodiscard]] PagerHandle
    release_rootfs(const std::string& vm, std::function<void(Result<>)> handler);
    // Called with the state soon, and after every change, until dropped; also from inside itself.
    [[nodiscard]] PagerHandle
    watch_session(const std::string& name, std::function<void(const PagerSession&)> handler);

private:
    class Watch;
    Result<BusMessage> make_create(const SessionRequest& request) const;
    Result<BusMessage> make_read(const std::string& path) const;
    PagerHandle
    take_file(const std::string& name, const char* member, std::function<void(Result<Fd>)> handler);
    void refresh(const std::string& path);
    void refresh_all();

    Bus& bus_;
    EventLoop& loop_;
    std::vector<BusSlot> matches_;
    std::multimap<std::string, Watch*> watches_; // by object path
};

} // namespace thaw::restore
