// SPDX-License-Identifier: MIT
#pragma once

// What a guest's kernel keeps about a share: which nodes it has looked up and how often. A node
// stays known, and the daemon's descriptor of it open, until it is forgotten.

#include "fuse_client.hpp"

#include <map>
#include <string>
#include <unordered_map>

namespace thaw::virtiofs {

struct WalkOptions {
    bool plus = false;                // READDIRPLUS in place of READDIR and LOOKUP
    bool open = false;                // also open and close every regular file
    std::uint64_t limit = UINT64_MAX; // nodes, more or less: a folder that was listed counts whole
};

struct WalkReport {
    std::uint64_t nodes = 0;
    std::uint64_t names = 0;             // entries seen, whether or not they could be looked up
    std::map<int, std::uint64_t> errors; // by errno
    Microseconds duration = 0;
};

class Tree {
public:
    explicit Tree(FuseClient* client) : client_(client) {}

    // "a/b/c" from the root, one lookup per part; "" and "/" are the root.
    Result<fuse_entry_out> find(std::string_view path);
    // The folder a path is in, looked up, and the last part.
    Result<std::pair<NodeId, std::string>> parent_of(std::string_view path);
    // Counts a lookup that the caller made itself.
    void note(NodeId node) {
        if (++lookups_[node] == 1) order_.push_back(node);
    }

    // Looks up everything below `path` and keeps it. Errors of single entries are counted; the
    // daemon's end is an Error.
    Result<WalkReport> walk(std::string_view path, const WalkOptions& options);
    // Gives back all lookups of the `count` nodes that were noted last; how many nodes that were.
    Result<std::uint64_t> forget_newest(std::uint64_t count, bool batch);
    std::size_t size() const { return lookups_.size(); }

private:
    Result<> walk_directory(
        NodeId directory, const WalkOptions& options, WalkReport* report,
        std::vector<NodeId>* pending
    );
    Result<> visit(
        NodeId parent, const DirectoryEntry& entry, const WalkOptions& options, WalkReport* report,
        std::vector<NodeId>* pending
    );
    // Counts the error; it is passed on only when the daemon is gone.
    Result<> tally(Error error, WalkReport* report) const;

    FuseClient* client_;
    std::unordered_map<NodeId, std::uint64_t> lookups_;
    std::vector<NodeId> order_; // as they were noted first
};

} // namespace thaw::virtiofs
