// SPDX-License-Identifier: MIT
#pragma once

// Client of org.thaw.shares1. Signals are hints: what a share's state is, is read. The supervisor
// may go away and come back at any time.

#include "bus/bus.hpp"
#include "share_options.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace thaw::restore {

struct LostShare {
    std::string vm;
    std::string tag;
    std::string message; // "org.thaw.shares1.Error.X: why"
    bool stops_vm = false;
};

// Owns an outstanding call or series of calls; destroying it forgets the handler.
class SharesOperation {
public:
    virtual ~SharesOperation() = default;
};
using SharesHandle = std::unique_ptr<SharesOperation>;

class SharesClient {
public:
    // `bus` must outlive the client, and the client its operations.
    explicit SharesClient(Bus& bus) : bus_(bus) {}
    SharesClient(const SharesClient&) = delete;
    SharesClient& operator=(const SharesClient&) = delete;

    // Installs matches; calls nobody. `changed` runs whenever a share may have been lost: a signal
    // says so, or the supervisor shows up on the bus.
    Result<> start(std::function<void()> changed);

    // Adds all, one after the other; on the first failure the rest is left alone. What was made is
    // the caller's to remove.
    [[nodiscard]] SharesHandle add_shares(
        const std::string& vm, const std::string& unit, std::vector<ShareRequest> requests,
        std::function<void(Result<>)> handler
    );
    // Removes every share of the VM, used or not; content when there is none.
    [[nodiscard]] SharesHandle
    remove_shares(const std::string& vm, std::function<void(Result<>)> handler);
    // Shares that are lost now. An Error when nobody answers; never starts the supervisor.
    [[nodiscard]] SharesHandle list_lost(std::function<void(Result<std::vector<LostShare>>)> handler
    );

private:
    Bus& bus_;
    std::vector<BusSlot> matches_;
};

} // namespace thaw::restore
