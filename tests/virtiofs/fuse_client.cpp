// SPDX-License-Identifier: MIT

#include "fuse_client.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace thaw::virtiofs {

namespace {

// As large as a kernel asks directories for.
constexpr std::uint32_t kListBytes = 128 * 1024;

// Names travel with their final NUL.
std::string terminated(std::string_view name) {
    return std::string(name) + '\0';
}

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

template <class T>
Result<T> decode(std::span<const std::byte> bytes) {
    T value{};
    if (bytes.size() < sizeof value)
        return fail(EBADMSG, "an answer of {} bytes is too short", bytes.size());
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

} // namespace

Result<FuseClient> FuseClient::start(const std::string& socket) {
    THAW_TRY(auto frontend, Frontend::connect(socket));
    FuseClient client(std::move(frontend));
    THAW_CHECK(client.initialize());
    return client;
}

void FuseClient::set_user(std::uint32_t uid, std::uint32_t gid) {
    uid_ = uid;
    gid_ = gid;
}

Result<> FuseClient::initialize() {
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = FUSE_KERNEL_MINOR_VERSION;
    in.max_readahead = 128 * 1024;
    in.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
               FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS;
    THAW_TRY(const auto bytes, call({FUSE_INIT, 0, bytes_of(in), {}, sizeof terms_}));
    std::memcpy(&terms_, bytes.data(), std::min(bytes.size(), sizeof terms_));
    // The slots hold no more.
    terms_.max_write = std::min<std::uint32_t>(terms_.max_write, 1U << 20);
    return {};
}

void FuseClient::submit(QueueId queue, unsigned slot, const Request& request, bool answered) {
    const auto area = frontend_.request_bytes(slot);
    std::vector<std::size_t> parts{sizeof(fuse_in_header)};
    std::size_t size = sizeof(fuse_in_header);
    for (const auto part : {request.arguments, request.payload}) {
        if (part.empty()) continue;
        THAW_INVARIANT(size + part.size() <= area.size());
        std::memcpy(area.data() + size, part.data(), part.size());
        parts.push_back(part.size());
        size += part.size();
    }
    const fuse_in_header header{
        .len = static_cast<std::uint32_t>(size),
        .opcode = request.operation,
        .unique = next_unique_,
        .nodeid = request.node,
        .uid = uid_,
        .gid = gid_,
        .pid = static_cast<std::uint32_t>(getpid()),
    };
    next_unique_ += 2; // a kernel's are even
    std::memcpy(area.data(), &header, sizeof header);
    std::vector<std::size_t> room;
    if (answered) {
        std::memset(frontend_.reply_bytes(slot).data(), 0, sizeof(fuse_out_header));
        room.push_back(sizeof(fuse_out_header));
        if (request.room != 0) room.push_back(request.room);
    }
    frontend_.submit(queue, slot, parts, room);
}

Result<std::span<const std::byte>> FuseClient::answer(unsigned slot) const {
    const auto area = frontend_.reply_bytes(slot);
    fuse_out_header header{};
    std::memcpy(&header, area.data(), sizeof header);
    if (header.error != 0) return fail_errno(-header.error, "the daemon answers");
    if (header.len < sizeof header || header.len > area.size())
        return fail(EBADMSG, "the daemon answers with {} bytes", header.len);
    return std::span<const std::byte>(area).subspan(sizeof header, header.len - sizeof header);
}

Result<unsigned> FuseClient::wait(QueueId queue) {
    auto slot = frontend_.wait(queue);
    gone_ = gone_ || !slot;
    return slot;
}

Result<std::span<const std::byte>> FuseClient::call(const Request& request) {
    submit(QueueId::Request, 0, request, true);
    THAW_CHECK(wait(QueueId::Request));
    return answer(0);
}

template <class T>
Result<T> FuseClient::call_for(const Request& request) {
    THAW_TRY(const auto bytes, call(request));
    return decode<T>(bytes);
}

Result<fuse_entry_out> FuseClient::lookup(NodeId parent, std::string_view name) {
    const auto text = terminated(name);
    return call_for<fuse_entry_out>(
        {FUSE_LOOKUP, parent, {}, bytes_of(text), sizeof(fuse_entry_out)}
    );
}

Result<> FuseClient::forget_one(NodeId node, std::uint64_t count) {
    const fuse_forget_in in{count};
    submit(QueueId::HighPriority, 0, {FUSE_FORGET, node, bytes_of(in), {}, 0}, false);
    THAW_CHECK(wait(QueueId::HighPriority));
    return {};
}

Result<> FuseClient::forget(std::span<const fuse_forget_one> nodes) {
    constexpr std::size_t kBatch = 4096;
    while (!nodes.empty()) {
        const auto part = nodes.first(std::min(nodes.size(), kBatch));
        const fuse_batch_forget_in in{static_cast<std::uint32_t>(part.size()), 0};
        submit(
            QueueId::HighPriority, 0, {FUSE_BATCH_FORGET, 0, bytes_of(in), std::as_bytes(part), 0},
            false
        );
        THAW_CHECK(wait(QueueId::HighPriority));
        nodes = nodes.subspan(part.size());
    }
    return {};
}

Result<fuse_attr> FuseClient::attributes(NodeId node) {
    const fuse_getattr_in in{};
    THAW_TRY(
        const auto out,
        call_for<fuse_attr_out>({FUSE_GETATTR, node, bytes_of(in), {}, sizeof(fuse_attr_out)})
    );
    return out.attr;
}

Result<fuse_attr> FuseClient::change(NodeId node, const fuse_setattr_in& what) {
    THAW_TRY(
        const auto out,
        call_for<fuse_attr_out>({FUSE_SETATTR, node, bytes_of(what), {}, sizeof(fuse_attr_out)})
    );
    return out.attr;
}

Result<Handle> FuseClient::open(NodeId node, std::uint32_t flags) {
    const fuse_open_in in{flags, 0};
    const auto how = (flags & O_DIRECTORY) != 0 ? FUSE_OPENDIR : FUSE_OPEN;
    THAW_TRY(
        const auto out,
        call_for<fuse_open_out>({how, node, bytes_of(in), {}, sizeof(fuse_open_out)})
    );
    return Handle{node, out.fh};
}

Result<std::pair<fuse_entry_out, Handle>>
FuseClient::create(NodeId parent, std::string_view name, std::uint32_t flags, std::uint32_t mode) {
    struct Created {
        fuse_entry_out entry;
        fuse_open_out open;
    };
    const fuse_create_in in{flags | O_CREAT, mode | S_IFREG, 022, 0};
    const auto text = terminated(name);
    THAW_TRY(
        const auto out,
        call_for<Created>({FUSE_CREATE, parent, bytes_of(in), bytes_of(text), sizeof(Created)})
    );
    return std::pair(out.entry, Handle{out.entry.nodeid, out.open.fh});
}

Result<std::string> FuseClient::read(const Handle& file, std::uint64_t offset, std::uint32_t size) {
    fuse_read_in in{};
    in.fh = file.id;
    in.offset = offset;
    in.size = std::min(size, terms_.max_write);
    THAW_TRY(const auto bytes, call({FUSE_READ, file.node, bytes_of(in), {}, in.size}));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::uint32_t>
FuseClient::write(const Handle& file, std::uint64_t offset, std::string_view data) {
    fuse_write_in in{};
    in.fh = file.id;
    in.offset = offset;
    const auto part = data.substr(0, terms_.max_write);
    in.size = static_cast<std::uint32_t>(part.size());
    THAW_TRY(
        const auto out, call_for<fuse_write_out>(
                            {FUSE_WRITE, file.node, bytes_of(in), std::as_bytes(std::span(part)),
                             sizeof(fuse_write_out)}
                        )
    );
    return out.size;
}

Result<> FuseClient::sync(const Handle& file) {
    fuse_fsync_in in{};
    in.fh = file.id;
    THAW_CHECK(call({FUSE_FSYNC, file.node, bytes_of(in), {}, 0}));
    return {};
}

Result<> FuseClient::release(const Handle& file) {
    fuse_release_in in{};
    in.fh = file.id;
    THAW_CHECK(call({FUSE_RELEASE, file.node, bytes_of(in), {}, 0}));
    return {};
}

Result<fuse_entry_out>
FuseClient::make_directory(NodeId parent, std::string_view name, std::uint32_t mode) {
    const fuse_mkdir_in in{mode, 022};
    const auto text = terminated(name);
    return call_for<fuse_entry_out>(
        {FUSE_MKDIR, parent, bytes_of(in), bytes_of(text), sizeof(fuse_entry_out)}
    );
}

Result<> FuseClient::remove(fuse_opcode how, NodeId parent, std::string_view name) {
    const auto text = terminated(name);
    THAW_CHECK(call({how, parent, {}, bytes_of(text), 0}));
    return {};
}

Result<> FuseClient::rename(
    NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name
) {
    const fuse_rename_in in{new_parent};
    const auto names = terminated(name) + terminated(new_name);
    THAW_CHECK(call({FUSE_RENAME, parent, bytes_of(in), bytes_of(names), 0}));
    return {};
}

Result<fuse_kstatfs> FuseClient::file_system(NodeId node) {
    THAW_TRY(
        const auto out,
        call_for<fuse_statfs_out>({FUSE_STATFS, node, {}, {}, sizeof(fuse_statfs_out)})
    );
    return out.st;
}

Result<> FuseClient::list_part(
    const Handle& directory, bool plus, std::uint64_t* offset, std::vector<DirectoryEntry>* into
) {
    fuse_read_in in{};
    in.fh = directory.id;
    in.offset = *offset;
    in.size = kListBytes;
    const auto how = plus ? FUSE_READDIRPLUS : FUSE_READDIR;
    THAW_TRY(auto bytes, call({how, directory.node, bytes_of(in), {}, kListBytes}));
    const std::size_t fixed = FUSE_NAME_OFFSET + (plus ? sizeof(fuse_entry_out) : 0);
    if (bytes.empty()) *offset = UINT64_MAX;
    while (bytes.size() >= fixed) {
        DirectoryEntry entry;
        fuse_dirent header{};
        if (plus) std::memcpy(&entry.entry, bytes.data(), sizeof entry.entry);
        std::memcpy(&header, bytes.data() + fixed - FUSE_NAME_OFFSET, FUSE_NAME_OFFSET);
        if (fixed + header.namelen > bytes.size()) return fail(EBADMSG, "a cut directory entry");
        entry.name.assign(reinterpret_cast<const char*>(bytes.data()) + fixed, header.namelen);
        entry.type = header.type;
        *offset = header.off;
        bytes = bytes.subspan(std::min(bytes.size(), FUSE_DIRENT_ALIGN(fixed + header.namelen)));
        if (entry.name != "." && entry.name != "..") into->push_back(std::move(entry));
    }
    return {};
}

Result<std::vector<DirectoryEntry>> FuseClient::list(NodeId directory, bool plus) {
    THAW_TRY(const auto handle, open(directory, O_RDONLY | O_DIRECTORY));
    std::vector<DirectoryEntry> entries;
    Result<> listed;
    for (std::uint64_t offset = 0; listed && offset != UINT64_MAX;)
        listed = list_part(handle, plus, &offset, &entries);
    fuse_release_in in{};
    in.fh = handle.id;
    if (!gone_) THAW_CHECK(call({FUSE_RELEASEDIR, directory, bytes_of(in), {}, 0}));
    if (!listed) return std::unexpected(std::move(listed).error());
    return entries;
}

Result<> FuseClient::stream(
    const Handle& file, bool writing, std::uint64_t count, std::uint32_t block, unsigned depth
) {
    if (block == 0 || block > terms_.max_write || depth == 0 || depth > Frontend::kSlots)
        return fail(
            EINVAL, "blocks of at most {}, depth 1 to {}", terms_.max_write,
            unsigned{Frontend::kSlots}
        );
    const std::string data(block, 'x');
    std::uint64_t sent = 0;
    const auto send = [&](unsigned slot) {
        const auto offset = sent++ * block;
        if (writing) {
            fuse_write_in in{};
            in.fh = file.id;
            in.offset = offset;
            in.size = block;
            const Request request{
                FUSE_WRITE, file.node, bytes_of(in), bytes_of(data), sizeof(fuse_write_out)
            };
            submit(QueueId::Request, slot, request, true);
        } else {
            fuse_read_in in{};
            in.fh = file.id;
            in.offset = offset;
            in.size = block;
            submit(QueueId::Request, slot, {FUSE_READ, file.node, bytes_of(in), {}, block}, true);
        }
    };
    for (unsigned slot = 0; slot < depth && sent < count; ++slot)
        send(slot);
    Result<> outcome;
    // Everything in flight is taken back even after an error, so that the next call is in step.
    for (std::uint64_t done = 0; done < sent; ++done) {
        THAW_TRY(const auto slot, wait(QueueId::Request));
        const auto bytes = answer(slot);
        if (!bytes && outcome) outcome = std::unexpected(bytes.error());
        if (outcome && bytes->size() != (writing ? sizeof(fuse_write_out) : block))
            outcome = fail(EIO, "a short answer of {} bytes", bytes->size());
        if (outcome && sent < count) send(slot);
    }
    return outcome;
}

} // namespace thaw::virtiofs
