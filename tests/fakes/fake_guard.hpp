// SPDX-License-Identifier: MIT
#pragma once

// A fake org.thaw.diskguard1 with one volume that holds every path, on a connection of its own. It
// promises whatever it is asked for, at once or when the test says so.

#include "bus/bus.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace thaw::fakes {

class FakeGuard {
public:
    FakeGuard(Bus bus, std::function<void(const std::string&)> note);
    FakeGuard(const FakeGuard&) = delete;
    FakeGuard& operator=(const FakeGuard&) = delete;

    bool owns_name() const { return owns_name_; }
    // The volume's level, and "pause" or "continue" for its writers; announced.
    void set_volume(const std::string& level, const std::string& writers);
    // Questions for a volume are answered with that error from now on.
    void answer_with(std::string error) { error_ = std::move(error); }
    // Requests for a promise wait for release() from now on.
    void hold() { holding_ = true; }
    bool has_held() const { return !held_.empty(); }
    void release();

private:
    struct Vtables;
    friend struct Vtables;
    Result<> method_get(BusMessage message);
    Result<> method_reserve(BusMessage message);
    Result<> method_report(BusMessage message);
    Result<> append_level(BusMessage& reply) const { return reply.append("s", level_.c_str()); }
    Result<> append_writers(BusMessage& reply) const { return reply.append("s", writers_.c_str()); }
    template <const char* const* Word>
    Result<> append_word(BusMessage& reply) const {
        return reply.append("s", *Word);
    }
    static Result<> promise(BusMessage& message);

    Bus bus_;
    std::function<void(const std::string&)> note_;
    std::string error_;
    std::string level_ = "normal";
    std::string writers_ = "continue";
    std::vector<BusMessage> held_;
    std::vector<BusSlot> slots_;
    bool holding_ = false;
    bool owns_name_ = false;
};

} // namespace thaw::fakes
