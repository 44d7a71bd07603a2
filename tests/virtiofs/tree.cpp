// SPDX-License-Identifier: MIT

#include "tree.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>

namespace thaw::virtiofs {

Result<fuse_entry_out> Tree::find(std::string_view path) {
    fuse_entry_out entry{};
    entry.nodeid = kRootNode;
    bool looked_up = false;
    while (!path.empty()) {
        const auto slash = path.find('/');
        const auto part = path.substr(0, slash);
        path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
        if (part.empty()) continue;
        THAW_TRY(entry, client_->lookup(entry.nodeid, part));
        note(entry.nodeid);
        looked_up = true;
    }
    if (!looked_up) {
        THAW_TRY(entry.attr, client_->attributes(kRootNode));
    }
    return entry;
}

Result<std::pair<NodeId, std::string>> Tree::parent_of(std::string_view path) {
    while (path.ends_with('/'))
        path.remove_suffix(1);
    const auto slash = path.rfind('/');
    const auto name = slash == std::string_view::npos ? path : path.substr(slash + 1);
    if (name.empty()) return fail(EINVAL, "'{}' names nothing", path);
    const auto folder = slash == std::string_view::npos ? "" : path.substr(0, slash);
    THAW_TRY(const auto entry, find(folder));
    return std::pair(entry.nodeid, std::string(name));
}

Result<> Tree::tally(Error error, WalkReport* report) const {
    if (client_->gone()) return std::unexpected(std::move(error));
    ++report->errors[error.code()];
    return {};
}

Result<> Tree::visit(
    NodeId parent, const DirectoryEntry& entry, const WalkOptions& options, WalkReport* report,
    std::vector<NodeId>* pending
) {
    ++report->names;
    auto found = entry.entry;
    // READDIRPLUS may leave an entry for the kernel to look up.
    if (found.nodeid == 0) {
        auto looked_up = client_->lookup(parent, entry.name);
        if (!looked_up) return tally(std::move(looked_up).error(), report);
        found = *looked_up;
    }
    note(found.nodeid);
    ++report->nodes;
    if (S_ISDIR(found.attr.mode)) {
        pending->push_back(found.nodeid);
    } else if (options.open && S_ISREG(found.attr.mode)) {
        auto file = client_->open(found.nodeid, O_RDONLY);
        if (!file) return tally(std::move(file).error(), report);
        THAW_CHECK(client_->release(*file));
    }
    return {};
}

Result<> Tree::walk_directory(
    NodeId directory, const WalkOptions& options, WalkReport* report, std::vector<NodeId>* pending
) {
    auto entries = client_->list(directory, options.plus);
    if (!entries) return tally(std::move(entries).error(), report);
    for (const auto& entry : *entries) {
        // What came with READDIRPLUS is looked up already and has to be counted.
        if (report->nodes >= options.limit && entry.entry.nodeid == 0) break;
        THAW_CHECK(visit(directory, entry, options, report, pending));
    }
    return {};
}

Result<WalkReport> Tree::walk(std::string_view path, const WalkOptions& options) {
    WalkReport report;
    const auto begin = now_monotonic();
    THAW_TRY(const auto start, find(path));
    std::vector<NodeId> pending{start.nodeid};
    while (!pending.empty() && report.nodes < options.limit) {
        const auto directory = pending.back();
        pending.pop_back();
        THAW_CHECK(walk_directory(directory, options, &report, &pending));
    }
    report.duration = now_monotonic() - begin;
    return report;
}

Result<std::uint64_t> Tree::forget_newest(std::uint64_t count, bool batch) {
    std::vector<fuse_forget_one> nodes;
    for (; !order_.empty() && nodes.size() < count; order_.pop_back()) {
        const auto found = lookups_.find(order_.back());
        nodes.push_back({found->first, found->second});
        lookups_.erase(found);
    }
    if (batch) {
        THAW_CHECK(client_->forget(nodes));
    } else {
        for (const auto& [node, lookups] : nodes)
            THAW_CHECK(client_->forget_one(node, lookups));
    }
    return nodes.size();
}

} // namespace thaw::virtiofs
