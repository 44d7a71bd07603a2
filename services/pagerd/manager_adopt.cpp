// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "core/file.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "policy.hpp"
#include "uffd_check.hpp"

#include <algorithm>
#include <utility>

namespace thaw::pagerd {

namespace {

std::string starts_path(const Config& config) {
    return config.runtime_directory + "/starts";
}

// A session can be judged: it waits with its listener, or its VMM's descriptors are both there.
bool is_complete(const std::map<FdRole, Fd>& stored) {
    if (!stored.contains(FdRole::Session)) return false;
    if (stored.contains(FdRole::Uffd)) return stored.contains(FdRole::Vmm);
    return stored.contains(FdRole::Listen);
}

std::set<FdRole> roles_of(const std::map<FdRole, Fd>& stored) {
    std::set<FdRole> roles;
    for (const auto& [role, fd] : stored)
        roles.insert(role);
    return roles;
}

} // namespace

Result<> Manager::count_start() {
    const auto& config = loaded_.config;
    const auto path = starts_path(config);
    const auto text = read_file(path);
    const auto record = record_start(
        parse_starts(text.value_or("")), now_monotonic(), config.start_limit_burst,
        config.start_limit_interval
    );
    broker_.safe_mode = record.safe_mode;
    if (record.safe_mode)
        log_event(
            LogLevel::Error, message_id::kSafeMode, {},
            "{} starts within {}: safe mode, nothing new is accepted", record.starts.size(),
            format_timespan(config.start_limit_interval)
        );
    return write_file_atomic(path, format_starts(record.starts), 0600);
}

// An orderly end is no crash: only those are counted.
void Manager::forget_start() {
    const auto path = starts_path(loaded_.config);
    auto starts = parse_starts(read_file(path).value_or(""));
    if (starts.empty() || broker_.safe_mode) return;
    starts.pop_back();
    if (auto written = write_file_atomic(path, format_starts(starts), 0600); !written)
        log_debug("{}", written.error().message());
}

void Manager::adopt_all(Inherited inherited) {
    for (const auto& name : inherited.unknown) {
        log_warning("removing unknown '{}' from the descriptor store", name);
        store_.remove(name);
    }
    adopt_images(inherited);
    for (auto& [id, stored] : inherited.by_id)
        adopt_stored(id, std::move(stored));
    auto deadline = context_.loop.add_timer(
        loaded_.config.adoption_timeout, [this] { give_up_orphans(); }, "orphans", priority::kTimer
    );
    if (deadline) orphan_deadline_ = std::move(*deadline);
}

// The memory.map of a remote image is pushed for the cache and for those who read: the same open
// file, which PID 1 keeps once. It is pushed again, so that what is removed later was counted. The
// cache's name sorts first, so it is there already.
void Manager::add_shared_map(const std::string& id, Stored& stored) {
    const auto image = chunked_image(id);
    const auto* chunks = image ? chunks_->find(*image) : nullptr;
    if (chunks == nullptr || stored.contains(FdRole::Map)) return;
    auto copy = chunks->files()->index.duplicate();
    if (!copy) return log_warning("{}", copy.error().message());
    if (auto pushed = store_.push(stored_name(id, FdRole::Map), copy->get()); !pushed)
        log_warning("{}", pushed.error().message());
    stored.emplace(FdRole::Map, std::move(*copy));
}

// Leaves in `inherited` what belongs to sessions.
void Manager::adopt_images(Inherited& inherited) {
    for (auto next = inherited.by_id.begin(); next != inherited.by_id.end();) {
        const auto current = next++;
        auto& [id, stored] = *current;
        if (auto adopted = chunks_->adopt(id, stored); !adopted)
            log_warning("cache of image {}", adopted.error().message());
        add_shared_map(id, stored);
        if (auto adopted = images_.adopt(id, stored); !adopted)
            log_warning("{}", adopted.error().message());
        if (stored.empty()) inherited.by_id.erase(current);
    }
    // Only now are all images known that they may be of.
    for (auto next = inherited.by_id.begin(); next != inherited.by_id.end();) {
        const auto current = next++;
        auto& [id, stored] = *current;
        if (auto adopted = rootfs_.adopt(id, stored); !adopted)
            log_warning("{}", adopted.error().message());
        if (stored.empty()) inherited.by_id.erase(current);
    }
}

void Manager::adopt_stored(const std::string& id, Stored stored) {
    if (is_complete(stored)) {
        if (auto memory = open_memory(id, stored.at(FdRole::Session)); memory) {
            const auto roles = roles_of(stored);
            if (auto revived = revive(std::move(*memory), std::move(stored), roles); !revived)
                log_notice("session {} is not taken over: {}", id, revived.error().message());
            return;
        } else {
            log_notice("session {} is not taken over: {}", id, memory.error().message());
        }
    }
    // Its userfaultfd may be that of a live VMM.
    orphans_.emplace(id, Orphan{.stored = std::move(stored), .vmm_exit = {}});
}

// Of a session that there can be. A mapping of its own: what was kept stays as it is.
Result<protocol::SessionMemory> Manager::open_memory(const std::string& id, const Fd& session) {
    THAW_TRY(auto copy, session.duplicate());
    THAW_TRY(auto memory, protocol::SessionMemory::map(std::move(copy)));
    const auto& info = memory.info();
    if (hex_encode(info.session_id.data(), info.session_id.size()) != id)
        return fail(EBADMSG, "the session memory has another id");
    if (sessions_.contains(info.name))
        return fail(EEXIST, "there is another session of {}", info.name);
    return memory;
}

// On an Error nothing of it is left, in the store either.
Result<Session*>
Manager::revive(protocol::SessionMemory memory, Stored stored, const std::set<FdRole>& kept) {
    const bool chunked = (memory.info().flags & protocol::kFlagChunked) != 0;
    const auto* image = images_.acquire_known(image_key(memory.info().image_id, chunked));
    auto* session = add(std::move(memory), image);
    session->publish();
    if (auto adopted = session->adopt(std::move(stored), kept); !adopted) {
        session->abandon();
        return std::unexpected(std::move(adopted).error());
    }
    return session;
}

void Manager::on_hello(protocol::HelloMessage hello, Fd channel, Peer peer) {
    const auto pid = peer.pid;
    if (auto accepted = accept_hello(hello, std::move(channel), std::move(peer)); !accepted)
        log_warning("process {} dialed in: {}", pid, accepted.error().message());
    update_status();
}

Result<> Manager::accept_hello(protocol::HelloMessage& hello, Fd channel, Peer peer) {
    const auto id = hex_encode(hello.session_id.data(), hello.session_id.size());
    const auto found = std::ranges::find_if(sessions_, [&](const auto& entry) {
        return entry.second->id() == id;
    });
    auto* session = found == sessions_.end() ? nullptr : found->second.get();
    if (!session) {
        THAW_TRY(session, revive_from_hello(id, hello));
    }
    return session->accept_worker(std::move(hello), std::move(channel), std::move(peer));
}

// The store had nothing, or not all, of this session.
Result<Session*> Manager::revive_from_hello(const std::string& id, protocol::HelloMessage& hello) {
    const auto orphan = orphans_.find(id);
    const auto* kept_session = &hello.session;
    if (orphan != orphans_.end())
        if (const auto found = orphan->second.stored.find(FdRole::Session);
            found != orphan->second.stored.end())
            kept_session = &found->second;
    // Of whom this fails for, nothing is touched.
    THAW_TRY(auto memory, open_memory(id, *kept_session));
    Stored stored;
    if (orphan != orphans_.end()) {
        stored = std::move(orphan->second.stored);
        orphans_.erase(orphan);
    }
    const auto kept = roles_of(stored);
    for (auto [role, fd] :
         {std::pair{FdRole::Session, &hello.session},
          {FdRole::Uffd, &hello.uffd},
          {FdRole::Vmm, &hello.vmm_pidfd}})
        stored.try_emplace(role, std::move(*fd));
    THAW_TRY(auto* session, revive(std::move(memory), std::move(stored), kept));
    announce(*session);
    return session;
}

void Manager::give_up_orphans() {
    bool look_again = false; // nothing tells of the end of a VMM without its pidfd
    for (auto next = orphans_.begin(); next != orphans_.end();) {
        const auto current = next++;
        auto& [id, orphan] = *current;
        const auto vmm = orphan.stored.find(FdRole::Vmm);
        const bool known = vmm != orphan.stored.end();
        const auto uffd = orphan.stored.find(FdRole::Uffd);
        if (uffd == orphan.stored.end() || (known ? pidfd_has_exited(vmm->second.get())
                                                  : has_lost_its_memory(uffd->second.get()))) {
            drop_orphan(id);
            continue;
        }
        // Closing it would give a live guest pages of zeros.
        if (!std::exchange(orphan.is_told, true))
            log_error("session {}: not all of it was kept; its userfaultfd is held", id);
        if (orphan.vmm_exit) continue;
        if (!known) {
            look_again = true;
            continue;
        }
        auto watch = context_.loop.add_process_exit(
            vmm->second.get(), [this, name = id] { drop_orphan(name); }, "orphan-exit",
            priority::kVital
        );
        if (watch) orphan.vmm_exit = std::move(*watch);
    }
    images_.drop_unused();
    update_status();
    if (!look_again) return;
    if (auto armed = orphan_deadline_.rearm(loaded_.config.adoption_timeout); !armed)
        log_warning("{}", armed.error().message());
}

// By value: it may be called from what it destroys.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
void Manager::drop_orphan(std::string id) {
    const auto orphan = orphans_.extract(id);
    if (!orphan) return;
    for (const auto role : roles_of(orphan.mapped().stored))
        store_.remove(stored_name(id, role));
    update_status();
}

} // namespace thaw::pagerd
