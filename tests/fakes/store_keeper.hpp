// SPDX-License-Identifier: MIT
#pragma once

// PID 1's side of $NOTIFY_SOCKET: keeps stored descriptors by name, passes barriers, knows READY=1.

#include "core/fd.hpp"
#include "event/event.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace thaw::fakes {

class StoreKeeper {
public:
    static Result<std::unique_ptr<StoreKeeper>> start(EventLoop& loop, const std::string& path);

    const std::string& path() const { return path_; }
    bool ready = false;
    std::string status;

    const std::multimap<std::string, Fd>& stored() const { return stored_; }
    // How many names end in `suffix`.
    std::size_t count(const std::string& suffix) const;
    void clear() { stored_.clear(); }
    void remove_role(const std::string& suffix);
    void add(const std::string& name, Fd fd) { stored_.emplace(name, std::move(fd)); }

private:
    void on_message();
    void apply(const std::map<std::string, std::string>& fields, std::vector<Fd> fds);

    std::string path_;
    Fd socket_;
    EventSource source_;
    std::multimap<std::string, Fd> stored_;
};

} // namespace thaw::fakes
