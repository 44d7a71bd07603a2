// SPDX-License-Identifier: MIT
#pragma once

// The broker: all sessions, their adoption after a restart, the limits.

#include "broker.hpp"
#include "chunk_cache_bus.hpp"
#include "control_socket.hpp"
#include "create_request.hpp"
#include "daemon/daemon.hpp"
#include "rootfs_table.hpp"
#include "session.hpp"
#include "stop_reason.hpp"
#include "stored_fds.hpp"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::pagerd {

class Manager final : public DaemonService {
public:
    Manager(DaemonContext context, LoadedConfig loaded);

    Result<> start() override;
    void stop(std::function<void()> finished) override;
    std::string status_text() const override;

private:
    using Stored = std::map<FdRole, Fd>;

    // ---- manager.cpp: sessions
    Result<Session*> create(CreateRequest request);
    Result<> check_room(const CreateRequest& request) const;
    Result<> open_chunks(CreateRequest& request);
    Result<Session*> find(std::string_view name) const;
    Session* add(protocol::SessionMemory memory, const ImageSource* image);
    void on_ended(Session& session, std::string_view result);
    void collect(Session& session);
    void on_tick();
    void tick_later();
    void update_status();
    std::size_t published() const;

    // ---- manager_adopt.cpp: what an earlier broker left
    Result<> count_start();
    void forget_start();
    void adopt_all(Inherited inherited);
    void adopt_images(Inherited& inherited);
    void add_shared_map(const std::string& id, Stored& stored);
    void adopt_stored(const std::string& id, Stored stored);
    Result<protocol::SessionMemory> open_memory(const std::string& id, const Fd& session);
    Result<Session*>
    revive(protocol::SessionMemory memory, Stored stored, const std::set<FdRole>& kept);
    void on_hello(protocol::HelloMessage hello, Fd channel, Peer peer);
    Result<> accept_hello(protocol::HelloMessage& hello, Fd channel, Peer peer);
    Result<Session*> revive_from_hello(const std::string& id, protocol::HelloMessage& hello);
    void give_up_orphans();
    void drop_orphan(std::string id);

    // ---- manager_bus.cpp
    Result<> export_objects();
    // Runs `then` when the sender is uid 0, else answers AccessDenied.
    void authorize(BusMessage message, std::function<void(BusMessage&)> then);
    void do_create(BusMessage& message);
    void finish_create(const std::string& name, Result<> stored);
    bool cancel_create(const std::string& name);
    void do_change(const std::string& name, Session::Change change, BusMessage& message);
    Result<> request_change(const std::string& name, Session::Change change, BusMessage message);
    void announce(Session& session);
    void announce_count();
    Result<> method_create(BusMessage message);
    Result<> method_close(BusMessage message);
    Result<> method_get(BusMessage message);
    Result<> method_list(BusMessage message);
    // ---- manager_rootfs.cpp
    Result<std::string> serve_rootfs(RootfsRequest request);
    Result<> method_serve_rootfs(BusMessage message);
    Result<> method_release_rootfs(BusMessage message);
    Result<> method_list_rootfs(BusMessage message);
    Result<> property_version(BusMessage& reply) const;
    Result<> property_count(BusMessage& reply) const;
    Result<> property_max_sessions(BusMessage& reply) const;
    Result<> property_safe_mode(BusMessage& reply) const;
    Result<> property_stored(BusMessage& reply) const;
    template <auto Count>
    Result<> append_count(BusMessage& reply) const;
    Result<> property_throttle(BusMessage& reply) const;
    template <auto Count>
    Result<> append_throttle(BusMessage& reply) const;
    static const sd_bus_vtable kVtable[];

    DaemonContext context_;
    LoadedConfig loaded_;
    Inherited inherited_;
    SystemdClient systemd_;
    FdStore store_;
    ImageTable images_;
    EndingWorkers ending_;
    std::unique_ptr<ChunkCache> chunks_;
    std::unique_ptr<ChunkCacheBus> chunks_bus_;
    Broker broker_;
    RootfsTable rootfs_; // after what it reads from

    struct Creation {
        BusMessage call;
        std::unique_ptr<NotifyBarrier> barrier;
    };
    struct Question {
        BusSlot slot;
    };
    std::map<std::string, std::unique_ptr<Session>, std::less<>> sessions_; // by VM name
    std::vector<std::unique_ptr<Session>> ended_; // freed from the loop, not from their callbacks
    std::map<std::string, Creation> creations_;   // by VM name: not yet in the store for certain
    struct Orphan {
        Stored stored;
        EventSource vmm_exit; // once nobody is expected to dial in any more
        bool is_told = false;
    };
    std::map<std::string, Orphan> orphans_; // by id: incomplete until a worker dials in
    std::map<std::uint64_t, Question> questions_;
    std::uint64_t next_question_ = 0;
    std::unique_ptr<ControlSocket> control_;
    std::unique_ptr<StopReason> stop_reason_;
    std::vector<BusSlot> exported_;
    EventSource tick_;
    bool ticking_ = true; // start() makes it so; adopted sessions are there before
    EventSource collect_source_;
    EventSource orphan_deadline_;
    std::string status_;
};

} // namespace thaw::pagerd
