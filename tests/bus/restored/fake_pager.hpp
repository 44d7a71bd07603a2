// SPDX-License-Identifier: MIT
#pragma once

// A fake org.thaw.pager1 on a connection of its own, scripted by the test.

#include "bus/bus.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::testing {

struct FakeSession {
    std::string name;
    std::string unit;
    std::string state = "listening";
    std::string error_name;
    std::string error_message;
    bool stop_pending = false;
    std::uint64_t memory_size = 0;
    std::uint64_t page_size = 0;
    bool prefetch = false;
    bool recording = false;
    std::uint64_t prefetch_rate = 0;
    std::string on_pager_loss;
    std::string image_name;
    bool has_memory = false;
    bool has_map = false;
    bool has_working_set = false;
    std::string image_id;
    std::function<std::uint64_t()> faults; // what the property Faults says
    std::vector<std::uint32_t> touches;    // what TakeRecording brings
    std::vector<std::string> changes;      // Quiesce, Resume, Complete, in order
    std::string change_error;              // answered to these
    unsigned unreadable = 0; // so many times its properties are answered with an error
};

class FakePager {
public:
    FakePager(Bus bus, std::function<void(const std::string&)> note);
    FakePager(const FakePager&) = delete;
    FakePager& operator=(const FakePager&) = delete;

    bool owns_name() const { return owns_name_; }
    std::map<std::string, FakeSession>& sessions() { return sessions_; }
    FakeSession* session(const std::string& name);
    // Changes a session and announces it.
    void set_state(
        const std::string& name, const std::string& state, const std::string& error_name = {},
        const std::string& error_message = {}
    );
    void set_stop_pending(const std::string& name);
    void drop(const std::string& name, const std::string& result);

    // Script of the next CreateSession calls.
    std::string create_error;   // answered instead of a session, until cleared
    bool create_silent = false; // no answer
    unsigned lost_replies = 0;  // a session is made, but the caller hears an error of the bus
    std::function<void()> on_create;
    std::function<void(FakeSession&)> on_session; // one that is about to be made

private:
    struct Vtables;
    friend struct Vtables;
    Result<> method_create(BusMessage message);
    Result<> method_close(BusMessage message);
    Result<> method_list(BusMessage message);
    Result<> read_options(BusMessage& message, FakeSession& session);
    static std::string path_of(const std::string& name);

    Bus bus_;
    std::function<void(const std::string&)> note_;
    std::map<std::string, FakeSession> sessions_;
    std::vector<BusSlot> slots_;
    std::vector<BusMessage> unanswered_;
    bool owns_name_ = false;
};

} // namespace thaw::testing
