// SPDX-License-Identifier: MIT
#pragma once

// The virtiofs supervisor: all shares, who may have one, and the way back after a restart. One
// thread, no blocking bus call.

#include "bus/polkit.hpp"
#include "context.hpp"
#include "daemon/daemon.hpp"
#include "daemon_probe.hpp"
#include "log_watch.hpp"
#include "share.hpp"

#include <systemd/sd-bus-vtable.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace thaw::sharesd {

struct AddRequest {
    std::string vm;
    std::string tag;
    std::string source;
    ShareOptions options;
    std::uint32_t owner = 0;
};

class Manager : public DaemonService {
public:
    Manager(DaemonContext daemon, LoadedConfig loaded);

    Result<> start() override;
    void ready() override;
    std::string status_text() const override;

private:
    // manager.cpp
    Result<> check_room(const AddRequest& request) const;
    void add(AddRequest request, const BusMessage& message);
    void add_with(const AddRequest& request, const FoundDaemon& daemon, BusMessage message);
    Result<> plan(
        const AddRequest& request, const FoundDaemon& daemon, Source& source, Record& record,
        std::vector<std::string>& command
    );
    Result<> check_churn(const AddRequest& request, const Source& source) const;
    void refuse(const AddRequest& request, const Error& error, const BusMessage& message) const;
    void on_started(Share& share, const Result<>& started, BusMessage& message);
    void on_ended(Share& share, std::string_view result);
    void announce(Share& share);
    void collect(Share& share);
    void on_log(const LogLine& line);
    Share* find(const std::string& id) const;
    Result<Share*> find_published(const std::string& vm, const std::string& tag) const;
    std::size_t count_published() const;
    void update_status();

    // manager_adopt.cpp
    void load();
    void adopt(Record record);
    void clean_leftovers();
    void clean(const std::string& vm, const std::string& tag);
    void clean_now(const std::string& vm, const std::string& tag);

    // manager_bus.cpp
    Result<> export_objects();
    void authorize(
        const BusMessage& message, const char* action, const std::string& vm,
        std::function<void()> allowed
    );
    Result<> method_add(BusMessage message);
    Result<> method_remove(BusMessage message);
    Result<> method_get(BusMessage message);
    Result<> method_list(BusMessage message);
    Result<> request_remove(Share& share, BusMessage message);
    Result<> request_raise_limit(Share& share, BusMessage message);
    Result<> request_drop_caches(const Share& share, const BusMessage& message);
    void do_remove(const std::string& id, std::uint64_t flags, const BusMessage& message);
    Result<> append_version(BusMessage& reply) const;
    Result<> append_shares(BusMessage& reply) const;
    Result<> append_max_shares(BusMessage& reply) const;
    Result<> append_allowed(BusMessage& reply) const;
    Result<> append_method(BusMessage& reply) const;
    void changed(std::vector<std::string> properties);
    static const sd_bus_vtable* vtable();

    DaemonContext daemon_;
    LoadedConfig loaded_;
    RecordStore records_;
    SystemdClient systemd_;
    ConnectionTable connections_;
    Context context_;
    Polkit polkit_;
    DaemonProbe probe_;
    Share::Requests requests_;
    std::unique_ptr<LogWatch> log_;
    std::string status_;
    std::map<std::string, std::unique_ptr<Share>> shares_; // by id
    std::map<std::string, Share*> by_service_;
    struct Leftover {
        SystemdHandle use; // of its daemon, which ends with its client
        std::unique_ptr<ShareTeardown> teardown;
    };
    std::map<std::string, Leftover> leftovers_; // by id
    std::vector<std::unique_ptr<Share>> ended_;
    std::vector<BusSlot> slots_;
    EventSource collect_;
};

} // namespace thaw::sharesd
