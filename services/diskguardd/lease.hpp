// SPDX-License-Identifier: MIT
#pragma once

// Promises of space. A lease is a socket: its owner holds one end, we hold the other, and when the
// owner's end closes, whatever closed it, the promise ends. Our ends are in the unit's descriptor
// store, each with its record waiting in its receive queue, so that leases outlive us and no file
// on a full disk has to say so.

#include "core/fd.hpp"
#include "event/event.hpp"
#include "systemd/notify.hpp"

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::diskguard {

struct LeaseRecord {
    std::string id;     // 16 hex digits
    std::string volume; // its id
    std::uint64_t bytes = 0;
    std::string who;
    std::string why;
    uid_t uid = 0;
    std::uint64_t since = 0; // µs of CLOCK_REALTIME
    bool operator==(const LeaseRecord&) const = default;
};
// One line of JSON, and back (EBADMSG).
std::string format_lease(const LeaseRecord& record);
Result<LeaseRecord> parse_lease(std::string_view text);

// "ID.lease" in the descriptor store; readable by every user, so it says nothing more.
std::string stored_lease_name(std::string_view id);
// Longest `who` and `why`; longer ones are refused.
inline constexpr std::size_t kMostLeaseText = 256;

class LeaseBook {
public:
    // `closed` hears of each lease that its owner gave back.
    LeaseBook(
        EventLoop& loop, FdStore& store, std::size_t limit,
        std::function<void(const LeaseRecord&)> closed
    );

    // Takes up what an earlier guardian stored. Leases given back meanwhile, and descriptors that
    // are none of ours, leave the store.
    void adopt(std::vector<NamedFd> stored);
    // Makes the lease (with an id of its own) and stores our end; the owner's end is returned. It
    // counts from now on. ENFILE when there are too many.
    Result<Fd> add(LeaseRecord& record);
    // For a lease whose owner never got its end.
    void drop(const std::string& id);

    std::uint64_t promised(std::string_view volume) const;
    std::size_t size() const { return leases_.size(); }
    std::vector<LeaseRecord> list() const;

private:
    struct Lease {
        LeaseRecord record;
        Fd ours;
        EventSource hangup;
    };
    Result<> keep(LeaseRecord record, Fd ours);
    void on_hangup(const std::string& id);

    EventLoop& loop_;
    FdStore& store_;
    std::size_t limit_;
    std::function<void(const LeaseRecord&)> closed_;
    std::map<std::string, Lease> leases_; // by id
};

} // namespace thaw::diskguard
