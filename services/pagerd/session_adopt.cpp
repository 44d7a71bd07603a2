// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "core/pidfd.hpp"
#include "log/message_ids.hpp"
#include "session.hpp"
#include "session_socket.hpp"

#include <utility>

namespace thaw::pagerd {

namespace {
Fd take(std::map<FdRole, Fd>& fds, FdRole role) {
    const auto found = fds.find(role);
    return found == fds.end() ? Fd() : std::move(found->second);
}
} // namespace

Result<> Session::adopt(std::map<FdRole, Fd> stored, const std::set<FdRole>& kept) {
    stored_ = kept;
    uffd_ = take(stored, FdRole::Uffd);
    vmm_ = take(stored, FdRole::Vmm);
    working_set_ = take(stored, FdRole::Replay);
    // Without its cache it serves what it has; the pages that are missing are a loss by policy.
    if (auto attached = attach_chunks(); !attached)
        log_error(log_fields(), "{}", attached.error().message());
    if (!stored_.contains(FdRole::Session)) THAW_CHECK(store(FdRole::Session, memory_.fd()));
    if (!uffd_) {
        listener_ = take(stored, FdRole::Listen);
        Fd connection = take(stored, FdRole::Conn);
        if (!listener_) return thaw::fail(ENOENT, "neither a listener nor a userfaultfd was kept");
        unstore(FdRole::Vmm);
        THAW_CHECK(listen(broker_.config.handshake_timeout));
        if (!connection || broker_.safe_mode) return {};
        if (auto begun = begin_handshake(std::move(connection)); !begun) on_stranger(begun.error());
        return {};
    }
    state_ = SessionState::Serving;
    unstore(FdRole::Conn);
    stop_listening();
    if (vmm_ && pidfd_has_exited(vmm_.get())) return thaw::fail(ESRCH, "the VMM is gone");
    auto worker = take(stored, FdRole::Worker);
    // The userfaultfd stays open whatever is wrong: a live VMM may depend on it.
    if (auto taken = take_over(std::move(worker)); !taken)
        fail(std::move(taken).error().with_bus_name(pager1::error::kWorkerLost));
    return {};
}

Result<> Session::take_over(Fd worker) {
    if (!vmm_) return thaw::fail(ENOENT, "the VMM's descriptor was not kept");
    for (const auto& [role, fd] : {std::pair{FdRole::Vmm, vmm_.get()}, {FdRole::Uffd, uffd_.get()}})
        if (!stored_.contains(role)) THAW_CHECK(store(role, fd));
    THAW_CHECK(watch_vmm());
    THAW_TRY(const auto regions, memory_.regions());
    if (regions.empty()) return thaw::fail(EBADMSG, "the session has no regions");
    make_worker();
    adopting_ = true;
    // From here on the worker's descriptor is the SessionWorker's to remove.
    stored_.erase(FdRole::Worker);
    worker_->adopt(std::move(worker));
    log_event(
        LogLevel::Notice, message_id::kSessionAdopted, log_fields(),
        "{}: taken over from an earlier broker", name()
    );
    return {};
}

Result<> Session::accept_worker(protocol::HelloMessage hello, Fd channel, Peer peer) {
    if (!worker_) return thaw::fail(ESRCH, "the session has no userfaultfd");
    if (!image_) {
        const bool chunked = (memory_.info().flags & protocol::kFlagChunked) != 0;
        ImageFiles files{
            .memory = std::move(hello.memory),
            .map = std::move(hello.map),
            .layers = std::move(hello.layers),
            .bases = std::move(hello.bases),
            .chunk_view = std::move(hello.chunk_map),
        };
        THAW_TRY(
            image_,
            broker_.images.acquire(image_key(memory_.info().image_id, chunked), std::move(files))
        );
        worker_->set_image(image_);
    }
    return worker_->accept(std::move(channel), std::move(peer));
}

} // namespace thaw::pagerd
