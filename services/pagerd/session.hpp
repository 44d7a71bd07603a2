// SPDX-License-Identifier: MIT
#pragma once

// One VM's pager session: from its listening socket to the end of the VMM. Everything that must
// survive the broker is in the descriptor store before anybody depends on it; the userfaultfd is
// held until the VMM is proven dead.

#include "broker.hpp"
#include "bus/message.hpp"
#include "handshake.hpp"
#include "protocol/session_memory.hpp"
#include "session_state.hpp"
#include "session_worker.hpp"
#include "stored_fds.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::pagerd {

class Session final : private ChunkUser {
public:
    // What a caller may ask of a session; the owner checks the sender first.
    enum class Change {
        Close,
        TakeRecording,
        SetPrefetch,
        Quiesce,
        Resume,
        Complete,
        StartTracking,
        StopTracking,
        TakeDirty,
    };
    using ChangeRequest =
        std::function<Result<>(const std::string& name, Change change, BusMessage message)>;
    // Called once, when the session is over: closed | vmm-exited | failed. The owner destroys the
    // session later, not from inside the call.
    using EndHandler = std::function<void(Session&, std::string_view result)>;

    // `image` was acquired for this session, which releases it.
    Session(
        Broker& broker, protocol::SessionMemory memory, const ImageSource* image, EndHandler ended,
        ChangeRequest change_requested
    );
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() override { detach_chunks(); }

    // Before open(); may be invalid.
    void set_working_set(Fd working_set) { working_set_ = std::move(working_set); }
    // A new session: makes the socket, stores listener and session memory, listens.
    Result<> open(Microseconds handshake_timeout);
    // One that an earlier broker left. `stored` holds what came from the store or from a worker;
    // those in `kept` are in the store already, the others are pushed. ESRCH: the VMM is gone;
    // ENOENT: nothing of it is left. Then abandon() it.
    Result<> adopt(std::map<FdRole, Fd> stored, const std::set<FdRole>& kept);
    // The worker of this session dialed in; fills in what the store did not have.
    Result<> accept_worker(protocol::HelloMessage hello, Fd channel, Peer peer);

    // Ends the session at once unless a live VMM depends on it; then when the VMM is dead.
    void close();
    // Ends a session that nobody was told of yet.
    void abandon() { end("closed"); }
    // ---- session_control.cpp: each answers `call` sooner or later
    void take_recording(BusMessage& call);
    void set_prefetch(BusMessage& call);
    // The barrier of a snapshot; answers once it stands.
    void quiesce(BusMessage& call);
    void resume(BusMessage& call);
    // Has every page loaded; then the VM needs no pager any more.
    void complete(BusMessage& call);

    // ---- session_tracking.cpp: the caller sees to it that the VM stands still
    void start_tracking(BusMessage& call);
    void stop_tracking(BusMessage& call);
    // A sealed memfd with the bitmap of pages that may have changed since tracking began.
    void take_dirty(BusMessage& call);

    // The broker is being stopped for good: a session that still waits for its VMM fails.
    void broker_stopped();
    void check_worker(Microseconds now);

    const std::string& name() const { return memory_.info().name; }
    const std::string& id() const { return id_; }
    const std::string& path() const { return path_; }
    const std::string& unit() const { return memory_.info().unit; }
    SessionState state() const { return state_; }
    const protocol::SessionMemory& memory() const { return memory_; }
    LogFields log_fields() const;
    bool is_published() const { return published_; }
    void publish() { published_ = true; }

    static const sd_bus_vtable kVtable[];

private:
    // ---- session.cpp: life
    void set_state(SessionState to, std::vector<std::string> also_changed = {});
    void changed(std::vector<std::string> properties);
    void fail(Error error);
    void end(std::string_view result);
    void release_all();
    Result<> store(FdRole role, int fd);
    void unstore(FdRole role);
    Result<> watch_vmm();
    void on_vmm_exit();
    void make_worker();
    void on_page_lost(const protocol::FailedMessage& message);
    bool vmm_is_alive() const;

    // ---- session_control.cpp
    void attend();
    void on_attended(const protocol::AttendedMessage& message);
    void on_replay_ended(const protocol::ReplayEndedMessage& message);
    void answer_quiesced();
    void on_complete();
    void leave_pager();
    Result<> detach();
    void drain_messages();
    // What a call is answered that wants a VM whose memory is served.
    std::unexpected<Error> not_serving() const;

    // ---- session_tracking.cpp
    struct TrackCall {
        BusMessage call;
        Change wanted;
        std::uint32_t vouch = 0; // TakeDirty: what SessionState::vouched must have come to
    };
    bool is_tracked() const;
    void await_tracking(TrackCall call);
    void answer_tracking();
    bool answer_one(TrackCall& call);
    void give_up_tracking();

    // ---- session_adopt.cpp
    Result<> take_over(Fd worker);

    // ---- session_chunks.cpp: of a remote image
    Result<> attach_chunks();
    void detach_chunks();
    void on_want_chunk(const protocol::WantChunkMessage& wanted);
    const std::string& image_name() const override { return memory_.info().image_name; }
    bool is_reading(std::uint64_t chunk) const override;
    std::uint32_t last_use(std::uint64_t chunk) const override;
    void chunk_landed(std::uint32_t chunk) override;
    void chunk_failed(std::uint32_t chunk, int errno_value) override;

    // ---- session_handshake.cpp
    Result<> listen(Microseconds handshake_timeout);
    void on_connection();
    Result<> begin_handshake(Fd connection);
    void on_stranger(const Error& error);
    void on_handshake(Result<HandshakeResult> result);
    Result<> serve(HandshakeResult& result);
    void stop_listening();

    // ---- session_bus.cpp
    template <auto Counter>
    Result<> append_counter(BusMessage& reply) const;
    Result<> append_text(BusMessage& reply, std::string_view text) const;
    Result<> property_name(BusMessage& reply) const;
    Result<> property_id(BusMessage& reply) const;
    Result<> property_unit(BusMessage& reply) const;
    Result<> property_image(BusMessage& reply) const;
    Result<> property_image_id(BusMessage& reply) const;
    Result<> property_memory_size(BusMessage& reply) const;
    Result<> property_page_size(BusMessage& reply) const;
    Result<> property_state(BusMessage& reply) const;
    Result<> property_error_name(BusMessage& reply) const;
    Result<> property_error_message(BusMessage& reply) const;
    Result<> property_stop_pending(BusMessage& reply) const;
    Result<> property_recording(BusMessage& reply) const;
    Result<> property_quiesced(BusMessage& reply) const;
    Result<> property_adopting(BusMessage& reply) const;
    Result<> property_worker_pid(BusMessage& reply) const;
    Result<> property_worker_restarts(BusMessage& reply) const;
    Result<> property_vmm_pid(BusMessage& reply) const;
    Result<> property_zero_pages(BusMessage& reply) const;
    Result<> property_pages_installed(BusMessage& reply) const;
    Result<> property_oldest_fault(BusMessage& reply) const;
    Result<> property_engine(BusMessage& reply) const;
    Result<> property_prefetch(BusMessage& reply) const;
    Result<> property_replay_state(BusMessage& reply) const;
    Result<> property_replay_reason(BusMessage& reply) const;
    Result<> property_replay_io(BusMessage& reply) const;
    Result<> property_latency(BusMessage& reply) const;
    Result<> property_latency_sum(BusMessage& reply) const;
    Result<> property_unservable(BusMessage& reply) const;
    Result<> property_touches(BusMessage& reply) const;
    Result<> property_populate_state(BusMessage& reply) const;
    Result<> property_tracking(BusMessage& reply) const;
    Result<> property_dirty(BusMessage& reply) const;
    Result<> property_handshake(BusMessage& reply) const;
    template <auto Field>
    Result<> append_state(BusMessage& reply) const;
    template <auto Field>
    Result<> append_policy(BusMessage& reply) const;
    std::uint64_t since_created(std::uint64_t when_ns) const;
    template <auto Moment>
    Result<> append_since(BusMessage& reply) const;
    template <Change Wanted>
    Result<> method_change(BusMessage message);

    Broker& broker_;
    protocol::SessionMemory memory_;
    const ImageSource* image_;
    ChunkImage* chunks_ = nullptr; // attached to
    EndHandler ended_;
    ChangeRequest change_requested_;
    std::string id_;
    std::string path_;
    SessionState state_ = SessionState::Listening;
    std::optional<Error> error_;
    bool published_ = false; // on the bus
    bool stop_pending_ = false;
    bool adopting_ = false;
    bool closing_ = false; // CloseSession came while the VMM lived
    std::set<FdRole> stored_;

    Microseconds handshake_timeout_ = 0;
    Fd listener_;
    EventSource accept_source_;
    std::unique_ptr<Handshake> handshake_;
    Fd connection_; // the VMM's, kept open
    Fd working_set_;
    std::vector<BusMessage> quiescing_; // calls that wait for the barrier
    EventSource quiesce_deadline_;
    std::vector<TrackCall> track_calls_; // that wait for the worker
    EventSource track_deadline_;
    EventSource complete_source_;
    EventSource drain_source_; // once the VM needs no pager any more

    Fd uffd_;
    Fd vmm_;
    pid_t vmm_pid_ = 0;
    EventSource vmm_source_;
    std::unique_ptr<SessionWorker> worker_;
};

} // namespace thaw::pagerd
