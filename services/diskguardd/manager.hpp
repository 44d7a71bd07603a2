// SPDX-License-Identifier: MIT
#pragma once

// The disk guardian: finds the volumes, keeps the leases, answers the bus, and turns levels into
// signals and hooks. Never touches a file system itself: each volume has a thread of its own, and
// so has the search for volumes.

#include "bus/polkit.hpp"
#include "config.hpp"
#include "daemon/daemon.hpp"
#include "event/worker.hpp"
#include "hooks.hpp"
#include "lease.hpp"
#include "pause_book.hpp"
#include "pressure.hpp"
#include "volume.hpp"

#include <systemd/sd-bus-vtable.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::diskguard {

class Manager final : public DaemonService, private VolumeOwner {
public:
    static Result<std::unique_ptr<Manager>> create(DaemonContext context, LoadedConfig loaded);
    Manager(const Manager&) = delete;
    Manager& operator=(const Manager&) = delete;
    ~Manager() override;

    Result<> start() override;
    std::string status_text() const override;

    static const sd_bus_vtable* vtable();

private:
    Manager(
        DaemonContext context, LoadedConfig loaded, std::unique_ptr<Mailbox> mailbox,
        std::unique_ptr<Worker> searcher, std::unique_ptr<Worker> path_finder
    );

    // manager.cpp: volumes
    Result<> watch_mounts();
    void watch_pressure();
    void search();
    void search_later();
    void on_found(reserve::FoundVolumes found);
    void add(const reserve::Volume& found);
    void remove(const std::string& id);
    void say_problems(const std::vector<reserve::PathProblem>& problems);
    void look_at_all();
    void update();
    Level level() const;
    bool levels_known() const;
    std::set<std::string> wanted_targets() const;

    void level_changed(Volume& volume, Level from) override;
    void action_taken(Volume& volume, std::string_view action, std::string_view reason) override;
    void volume_changed(Volume& volume) override;
    void volume_moved(Volume& volume) override;
    Result<> method_release(Volume& volume, BusMessage message) override;

    // manager_requests.cpp: what callers ask for; each answers `message` sooner or later
    // `then` gets the volume of an id, a mount point or any path; others are answered here.
    void
    with_volume(BusMessage message, const std::string& text, std::function<void(Volume&)> then);
    void
    find_by_path(BusMessage message, const std::string& text, std::function<void(Volume&)> then);
    void authorize(
        const BusMessage& message, const char* action, Volume& volume,
        std::function<void(Volume&)> allowed
    );
    // Measures free space anew; a volume that does not answer in time is an error.
    void with_space(
        const BusMessage& message, Volume& volume,
        std::function<void(Volume&, const reserve::Space&)> then
    );
    void reserve_space(const BusMessage& message, Volume& volume, LeaseRecord wanted);
    void finish_lease(std::uint64_t key, Result<> stored);
    void refuse_lease(
        const BusMessage& message, Volume& volume, const LeaseRecord& wanted, std::uint64_t free
    );
    void release(BusMessage message, Volume& volume, std::uint64_t bytes);
    void lease_closed(const LeaseRecord& record);
    void leases_changed(const std::string& volume);

    // manager_bus.cpp
    Result<> export_objects();
    Result<> method_list_volumes(BusMessage message);
    Result<> method_get_volume(BusMessage message);
    Result<> method_reserve(BusMessage message);
    Result<> method_can_fit(BusMessage message);
    Result<> method_list_leases(BusMessage message);
    Result<> method_release_named(BusMessage message);
    Result<> method_report_writers(BusMessage message);
    Result<> append_version(BusMessage& reply) const;
    Result<> append_volumes(BusMessage& reply) const;
    Result<> append_leases(BusMessage& reply) const;
    Result<> append_level(BusMessage& reply) const;
    Result<> append_release_policy(BusMessage& reply) const;
    Result<> append_writers_policy(BusMessage& reply) const;
    Result<> append_pressure(BusMessage& reply) const;
    void changed(std::vector<std::string> properties);
    template <class... Values>
    void emit(const char* member, const char* types, Values... values) {
        // Nobody may be listening; who cares reads the state again.
        (void)context_.bus.emit_signal(
            diskguard1::kPath, diskguard1::kManagerInterface, member, types, values...
        );
    }

    DaemonContext context_;
    LoadedConfig loaded_;
    SystemdClient systemd_;
    FdStore store_;
    LeaseBook leases_;
    PauseBook pauses_;
    Polkit polkit_;
    Hooks hooks_;
    std::unique_ptr<Mailbox> mailbox_;
    std::unique_ptr<Worker> searcher_;
    // Apart from the search: callers name any path, also one on a file system that hangs.
    std::unique_ptr<Worker> path_finder_;
    std::map<std::string, std::unique_ptr<Volume>> volumes_; // by id
    std::vector<std::unique_ptr<Volume>> gone_; // freed from the loop, not from their callbacks

    bool searched_ = false; // at least once
    bool searching_ = false;
    bool search_again_ = false;
    std::vector<std::function<void()>> waiting_; // calls that came before the first search ended
    std::set<std::string> said_problems_;
    Level shown_level_ = Level::Unknown;
    std::string status_;

    // A lease whose answer waits until PID 1 has our end.
    struct Grant {
        BusMessage call;
        std::string id;
        std::string volume;
        Fd theirs;
        std::unique_ptr<NotifyBarrier> barrier;
    };
    std::map<std::uint64_t, Grant> grants_;
    struct Question {
        EventSource deadline;
    };
    std::map<std::uint64_t, Question> questions_;
    std::uint64_t next_key_ = 0;

    Fd mounts_;
    EventSource mounts_source_;
    EventSource search_timer_;
    EventSource collect_;
    std::unique_ptr<Pressure> pressure_;
    Microseconds last_stall_ = 0;
    std::vector<BusSlot> exported_;
};

} // namespace thaw::diskguard
