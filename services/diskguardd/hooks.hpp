// SPDX-License-Identifier: MIT
#pragma once

// Targets that stand for levels, so that an admin can hang units on them. Only started and stopped
// here; what hangs on them is the admin's.

#include "systemd/manager_client.hpp"

#include <map>
#include <memory>
#include <set>
#include <string>

namespace thaw::diskguard {

class Hooks {
public:
    Hooks(Bus& bus, SystemdClient& systemd) : bus_(bus), systemd_(systemd) {}

    // Reads which targets an earlier guardian left active, then makes it so.
    void start();
    // The targets that are to be active from now on. `all`: no others are, else those of volumes
    // that nothing is known of yet are left as they are.
    void want(std::set<std::string> targets, bool all);

private:
    void on_listed(Result<BusMessage> reply);
    void apply();
    void run(const std::string& target, bool on);

    Bus& bus_;
    SystemdClient& systemd_;
    BusSlot listing_;
    bool listed_ = false;
    std::set<std::string> wanted_;
    bool wants_all_ = false;
    std::set<std::string> active_;
    std::map<std::string, SystemdHandle> running_; // one operation per target
};

} // namespace thaw::diskguard
