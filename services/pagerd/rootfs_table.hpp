// SPDX-License-Identifier: MIT
#pragma once

// The root file systems that are served from the cache, by VM.

#include "broker.hpp"
#include "bus/message.hpp"
#include "remote_memory.hpp"
#include "rootfs_source.hpp"
#include "stored_fds.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace thaw::pagerd {

struct RootfsRequest {
    RootfsDescription what;
    RemoteMemory remote;
    std::uint64_t size = 0; // bytes
    Fd map;                 // checksums of its pages
};
// ServeRootfs's arguments. InvalidArgs for unknown keys, values and flags.
Result<RootfsRequest> read_rootfs_request(BusMessage& message);

class RootfsTable {
public:
    explicit RootfsTable(Broker& broker) : broker_(broker) {}

    // What an earlier broker had; takes what is a root file system's out of `stored`. Content when
    // nothing is. What cannot be used is removed from the store and named in the error.
    Result<> adopt(const std::string& id, std::map<FdRole, Fd>& stored);
    // The path of the socket. RootfsExists, StoreFull, SafeMode, ImageMismatch.
    Result<std::string> serve(RootfsRequest request);
    // Content when there is none.
    void release(const std::string& vm);

    // In the store.
    static constexpr std::size_t kStoredPerSource = 2;
    std::size_t descriptors() const { return sources_.size() * kStoredPerSource; }
    const std::map<std::string, std::unique_ptr<RootfsSource>>& all() const { return sources_; }

private:
    Broker& broker_;
    std::map<std::string, std::unique_ptr<RootfsSource>> sources_; // by VM
};

} // namespace thaw::pagerd
