// SPDX-License-Identifier: MIT
#pragma once

// FUSE requests to a virtiofsd, one function each, as a guest's kernel would send them.
//
// An Error carries the errno that the daemon answered. When the daemon itself is gone or speaks
// nonsense, gone() is true from then on.

#include "frontend.hpp"

#include <linux/fuse.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::virtiofs {

using NodeId = std::uint64_t;
inline constexpr NodeId kRootNode = FUSE_ROOT_ID;

struct DirectoryEntry {
    std::string name;
    std::uint32_t type = 0; // DT_DIR, ...
    fuse_entry_out entry{}; // nodeid 0: not looked up
};

struct Handle {
    NodeId node = 0;
    std::uint64_t id = 0;
};

class FuseClient {
public:
    // Connects and sends INIT.
    static Result<FuseClient> start(const std::string& socket);

    const Offer& offer() const { return frontend_.offer(); }
    const fuse_init_out& terms() const { return terms_; }
    bool gone() const { return gone_; }
    // Whose requests they are from now on.
    void set_user(std::uint32_t uid, std::uint32_t gid);

    // A success of lookup(), create() or make_directory() counts as one lookup of the node, to be
    // given back with forget().
    Result<fuse_entry_out> lookup(NodeId parent, std::string_view name);
    Result<> forget(std::span<const fuse_forget_one> nodes);
    Result<> forget_one(NodeId node, std::uint64_t count);
    Result<fuse_attr> attributes(NodeId node);
    Result<fuse_attr> change(NodeId node, const fuse_setattr_in& what);
    Result<Handle> open(NodeId node, std::uint32_t flags);
    Result<std::pair<fuse_entry_out, Handle>>
    create(NodeId parent, std::string_view name, std::uint32_t flags, std::uint32_t mode);
    // At most max_write bytes each.
    Result<std::string> read(const Handle& file, std::uint64_t offset, std::uint32_t size);
    Result<std::uint32_t> write(const Handle& file, std::uint64_t offset, std::string_view data);
    Result<> sync(const Handle& file);
    Result<> release(const Handle& file);
    Result<fuse_entry_out> make_directory(NodeId parent, std::string_view name, std::uint32_t mode);
    // FUSE_UNLINK or FUSE_RMDIR.
    Result<> remove(fuse_opcode how, NodeId parent, std::string_view name);
    Result<>
    rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name);
    Result<fuse_kstatfs> file_system(NodeId node);
    // All entries but "." and ".."; `plus` looks each one up as well.
    Result<std::vector<DirectoryEntry>> list(NodeId directory, bool plus);

    // `count` requests of `block` bytes each from offset 0, `depth` of them in flight.
    Result<> stream(
        const Handle& file, bool writing, std::uint64_t count, std::uint32_t block, unsigned depth
    );

    Result<> send_garbage() { return frontend_.send_garbage(); }

private:
    explicit FuseClient(Frontend frontend) : frontend_(std::move(frontend)) {}
    struct Request {
        fuse_opcode operation;
        NodeId node;
        std::span<const std::byte> arguments; // the fixed part
        std::span<const std::byte> payload;   // names, data
        std::size_t room = 0;                 // for the answer after its header
    };
    void submit(QueueId queue, unsigned slot, const Request& request, bool answered);
    // The bytes after the header; valid until the slot is used again.
    Result<std::span<const std::byte>> answer(unsigned slot) const;
    Result<std::span<const std::byte>> call(const Request& request);
    template <class T>
    Result<T> call_for(const Request& request);
    // Waits for the next finished request; notes when the daemon is gone.
    Result<unsigned> wait(QueueId queue);
    Result<> initialize();
    Result<> list_part(
        const Handle& directory, bool plus, std::uint64_t* offset, std::vector<DirectoryEntry>* into
    );

    Frontend frontend_;
    fuse_init_out terms_{};
    std::uint64_t next_unique_ = 2;
    std::uint32_t uid_ = 0;
    std::uint32_t gid_ = 0;
    bool gone_ = false;
};

} // namespace thaw::virtiofs
