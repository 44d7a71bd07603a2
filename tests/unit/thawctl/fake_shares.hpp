// SPDX-License-Identifier: MIT
#pragma once

// A fake org.thaw.shares1 for tests of the client: no share, only the answers. A tag that is an
// error's name ("LimitTooLow") is refused with it.

#include "bus/bus.hpp"
#include "bus/message.hpp"
#include "event/event.hpp"

#include <map>
#include <string>
#include <vector>

namespace thaw::ctl::testing {

struct FakeShare {
    std::string name;
    std::string tag;
    std::string source;
    std::string state = "connected";
    std::string level = "elevated";
    std::vector<std::string>* calls = nullptr;

    template <std::string FakeShare::* Member>
    Result<> append_text(BusMessage& reply) const {
        return reply.append("s", (this->*Member).c_str());
    }
    Result<> append_used(BusMessage& reply) const { return reply.append("t", std::uint64_t{610}); }
    Result<> append_budget(BusMessage& reply) const {
        return reply.append("t", std::uint64_t{1000});
    }
    Result<> append_unknown(BusMessage& reply) const { return reply.append("t", UINT64_MAX); }
    Result<> append_remedies(BusMessage& reply) const {
        return reply.append("as", 2, "drop-caches", "raise-limit");
    }
    Result<> method_raise(BusMessage message);
    Result<> method_drop(BusMessage message);
};

class FakeShares {
public:
    // Takes the name on `bus`, which must be attached to `loop`.
    FakeShares(Bus& bus, EventLoop& loop);
    FakeShares(const FakeShares&) = delete;
    FakeShares& operator=(const FakeShares&) = delete;

    std::map<std::string, FakeShare> shares; // by object path
    std::vector<std::string> calls;          // "AddShare web src /srv Cache=never ..."

    void add(const std::string& name, const std::string& tag, const std::string& source);
    Result<> method_add(BusMessage message);
    Result<> method_remove(BusMessage message);
    Result<> method_get(BusMessage message);
    Result<> method_list(BusMessage message);

private:
    std::vector<BusSlot> slots_;
    BusSlot name_;
};

} // namespace thaw::ctl::testing
