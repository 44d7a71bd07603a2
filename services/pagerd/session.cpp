// SPDX-License-Identifier: MIT
#include "session.hpp"

#include "api/pager1.hpp"
#include "core/pidfd.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "session_socket.hpp"

#include <utility>

namespace thaw::pagerd {

Session::Session(
    Broker& broker, protocol::SessionMemory memory, const ImageSource* image, EndHandler ended,
    ChangeRequest change_requested
)
    : broker_(broker), memory_(std::move(memory)), image_(image), ended_(std::move(ended)),
      change_requested_(std::move(change_requested)),
      id_(hex_encode(memory_.info().session_id.data(), memory_.info().session_id.size())),
      path_(encode_object_path(pager1::kSessionPrefix, memory_.info().name)) {}

LogFields Session::log_fields() const {
    LogFields fields{{"THAW_INSTANCE", name()}, {"THAW_SESSION", id_}};
    if (const auto& image = memory_.info().image_name; !image.empty())
        fields.push_back({"THAW_IMAGE", image});
    return fields;
}

// The one place where the state changes.
void Session::set_state(SessionState to, std::vector<std::string> also_changed) {
    THAW_INVARIANT(may_follow(state_, to));
    state_ = to;
    also_changed.emplace_back("State");
    changed(std::move(also_changed));
    switch (to) {
    case SessionState::Serving:
        log_event(
            LogLevel::Info, message_id::kSessionServing, log_fields(), "{}: serving {} of memory",
            name(), format_size(memory_.info().memory_size)
        );
        break;
    case SessionState::Failed:
        log_event(
            LogLevel::Error, message_id::kSessionFailed, log_fields(), "{}: {}", name(),
            error_ ? error_->message() : std::string()
        );
        break;
    default:
        log_debug(log_fields(), "{}: {}", name(), kSessionStateNames.name(to));
        break;
    }
}

void Session::changed(std::vector<std::string> properties) {
    if (!published_) return;
    auto emitted = broker_.bus.emit_properties_changed(
        path_, pager1::kSessionInterface, std::move(properties)
    );
    if (!emitted) log_debug(log_fields(), "{}", emitted.error().message());
}

Result<> Session::store(FdRole role, int fd) {
    THAW_CHECK(broker_.store.push(stored_name(id_, role), fd));
    stored_.insert(role);
    return {};
}

void Session::unstore(FdRole role) {
    if (stored_.erase(role) > 0) broker_.store.remove(stored_name(id_, role));
}

Result<> Session::open(Microseconds handshake_timeout) {
    THAW_CHECK(attach_chunks());
    THAW_TRY(listener_, make_session_socket(broker_.config.runtime_directory, name()));
    THAW_CHECK(store(FdRole::Session, memory_.fd()));
    THAW_CHECK(store(FdRole::Listen, listener_.get()));
    // Without it in the store a later worker loads nothing ahead, which is no reason to fail.
    if (working_set_)
        if (auto kept = store(FdRole::Replay, working_set_.get()); !kept)
            log_warning(log_fields(), "{}", kept.error().message());
    return listen(handshake_timeout);
}

bool Session::vmm_is_alive() const {
    return vmm_ && !pidfd_has_exited(vmm_.get());
}

Result<> Session::watch_vmm() {
    THAW_TRY(
        vmm_source_, broker_.loop.add_process_exit(
                         vmm_.get(), [this] { on_vmm_exit(); }, "vmm-exit", priority::kVital
                     )
    );
    vmm_pid_ = pidfd_to_pid(vmm_.get()).value_or(0);
    return {};
}

void Session::on_vmm_exit() {
    if (closing_) return end("closed");
    end(state_ == SessionState::Failed ? "failed" : "vmm-exited");
}

void Session::make_worker() {
    worker_ = std::make_unique<SessionWorker>(
        broker_,
        SessionWorker::Resources{
            .id = id_,
            .memory = &memory_,
            .uffd = uffd_.get(),
            .vmm = vmm_.get(),
            .image = image_,
            .working_set = working_set_.get(),
            .fields = log_fields(),
        },
        SessionWorker::Events{
            .serving =
                [this] {
                    if (state_ == SessionState::Handshaking) set_state(SessionState::Serving);
                },
            .complete = [this] { on_complete(); },
            .attended = [this](const protocol::AttendedMessage& message) { on_attended(message); },
            .want_chunk = [this](const protocol::WantChunkMessage& wanted
                          ) { on_want_chunk(wanted); },
            .replay_ended = [this](const protocol::ReplayEndedMessage& message
                            ) { on_replay_ended(message); },
            .page_lost = [this](const protocol::FailedMessage& message) { on_page_lost(message); },
            .lost =
                [this](Error error) {
                    if (state_ != SessionState::Failed) fail(std::move(error));
                },
            .settled =
                [this] {
                    if (std::exchange(adopting_, false)) changed({"Adopting"});
                    // What it said to a broker that is gone.
                    const auto phase = memory_.state().phase.load(std::memory_order_acquire);
                    if (phase == static_cast<std::uint32_t>(protocol::WorkerPhase::Complete))
                        leave_pager();
                },
        }
    );
}

void Session::on_page_lost(const protocol::FailedMessage& message) {
    const auto why = fmt::format(
        "the page at offset {} of the image cannot be served: {}{}", message.page_offset,
        protocol::failure_reason_name(static_cast<std::uint32_t>(message.reason)),
        message.errno_value > 0 ? ", " + errno_text(message.errno_value) : std::string()
    );
    log_event(LogLevel::Error, message_id::kPageUnservable, log_fields(), "{}: {}", name(), why);
    // The worker knows whether the page was poisoned; what it wrote counts only as yes or no. A
    // worker that ends with this is replaced or not by its exit.
    const bool parked = memory_.state().stop_pending.load(std::memory_order_relaxed) != 0;
    if (!parked || state_ == SessionState::Failed) return;
    fail(Error(pager1::error::kSourceFailed, EIO, why));
}

// From here on the session only waits: for CloseSession, and for the death of its VMM when it holds
// that VMM's memory.
void Session::fail(Error error) {
    error_ = std::move(error).with_bus_name(pager1::error::kHandshakeInvalid);
    ++broker_.sessions_failed;
    // A VMM that got as far as its handshake hangs in its faults until restored stops its unit.
    stop_pending_ = state_ != SessionState::Listening;
    if (!uffd_) release_all();
    set_state(SessionState::Failed, {"ErrorName", "ErrorMessage", "StopPending"});
}

void Session::close() {
    if (uffd_ && vmm_is_alive()) {
        if (!std::exchange(closing_, true))
            log_notice(log_fields(), "{}: closing waits for the end of the VMM", name());
        return;
    }
    end("closed");
}

void Session::broker_stopped() {
    if (uffd_ || state_ == SessionState::Failed || state_ == SessionState::Closed) return;
    fail(Error(pager1::error::kBrokerStopped, ESHUTDOWN, "the pager was stopped"));
}

void Session::check_worker(Microseconds now) {
    if (worker_) worker_->check(now);
    // Set by the worker when a page met policy Stop, also by one that could not say so.
    const bool parked = memory_.state().stop_pending.load(std::memory_order_relaxed) != 0;
    if (parked && (state_ == SessionState::Serving || state_ == SessionState::Complete))
        fail(Error(
            pager1::error::kSourceFailed, EIO,
            fmt::format(
                "a page cannot be served: {}",
                protocol::failure_reason_name(
                    memory_.state().failure.reason.load(std::memory_order_relaxed)
                )
            )
        ));
}

void Session::release_all() {
    handshake_.reset();
    accept_source_.reset();
    vmm_source_.reset();
    complete_source_.reset();
    drain_source_.reset();
    quiesce_deadline_.reset();
    for (const auto& call : std::exchange(quiescing_, {}))
        call.reply_error(Error(pager1::error::kNotServing, ESHUTDOWN, "the session ended"));
    track_deadline_.reset();
    for (const auto& waiting : std::exchange(track_calls_, {}))
        waiting.call.reply_error(Error(pager1::error::kNotServing, ESHUTDOWN, "the session ended"));
    detach_chunks();
    if (worker_) worker_->finish();
    for (const auto role : std::set<FdRole>(stored_))
        unstore(role);
    listener_.reset();
    connection_.reset();
    uffd_.reset();
    vmm_.reset();
    working_set_.reset();
    remove_session_directory(broker_.config.runtime_directory, name());
    if (image_) broker_.images.release(std::exchange(image_, nullptr));
}

void Session::end(std::string_view result) {
    if (state_ == SessionState::Closed) return;
    const bool released = state_ == SessionState::Failed && !uffd_;
    if (!released) release_all();
    set_state(SessionState::Closed);
    log_event(
        LogLevel::Info, message_id::kSessionClosed, log_fields(), "{}: session over ({})", name(),
        result
    );
    ended_(*this, result);
}

} // namespace thaw::pagerd
