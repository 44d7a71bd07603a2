// SPDX-License-Identifier: MIT
#include "session_worker.hpp"

#include "api/pager1.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "stored_fds.hpp"

#include <fcntl.h>
#include <poll.h>

#include <array>
#include <utility>

namespace thaw::pagerd {

namespace {

// Longest wait for systemd to confirm the descriptors; the guest waits as well, so then it goes on.
constexpr Microseconds kBarrierTimeout = 5 * kUsecPerSec;
constexpr std::array<Microseconds, 3> kAttachRetries{
    100 * kUsecPerMsec, kUsecPerSec, 5 * kUsecPerSec
};
constexpr std::uint64_t kNsecPerUsec = 1000;

Result<Fd> duplicate_fd(int fd) {
    Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno(errno, "duplicate a descriptor");
    return copy;
}

bool has_unread(int uffd) {
    pollfd entry{.fd = uffd, .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN) != 0;
}

} // namespace

SessionWorker::SessionWorker(Broker& broker, Resources resources, Events events)
    : broker_(broker), resources_(std::move(resources)), events_(std::move(events)),
      budget_(broker.config.worker_restart_limit, broker.config.worker_restart_window) {}

WorkerProcess::Events SessionWorker::process_events() {
    return {
        .exited = [this](const std::string& how) { on_exit(how); },
        .message = [this](protocol::ControlMessage message) { on_message(std::move(message)); },
    };
}

void SessionWorker::take(std::unique_ptr<WorkerProcess> process) {
    process_ = std::move(process);
    detector_.emplace(now_monotonic(), broker_.config.worker_stuck);
    attach_attempts_ = 0;
}

void SessionWorker::store_pidfd() {
    const auto name = stored_name(resources_.id, FdRole::Worker);
    if (stored_) broker_.store.remove(name);
    const auto pushed = broker_.store.push(name, process_->pidfd());
    stored_ = pushed.has_value();
    // The worker says who it is on the control socket as well; one source is enough.
    if (!pushed) log_warning(resources_.fields, "{}", pushed.error().message());
}

void SessionWorker::start_first() {
    if (auto launched = launch(); !launched) {
        count_loss(launched.error().message());
        return;
    }
    auto barrier = NotifyBarrier::send(broker_.loop, kBarrierTimeout, [this](Result<> confirmed) {
        if (!confirmed) log_warning(resources_.fields, "{}", confirmed.error().message());
        // A worker that is gone already is replaced by its exit.
        if (auto sent = send_start(); !sent)
            log_warning(resources_.fields, "{}", sent.error().message());
        barrier_.reset();
    });
    if (barrier) {
        barrier_ = std::move(*barrier);
        return;
    }
    log_warning(resources_.fields, "{}", barrier.error().message());
    if (auto sent = send_start(); !sent)
        log_warning(resources_.fields, "{}", sent.error().message());
}

Result<> SessionWorker::launch() {
    THAW_TRY(
        auto process, WorkerProcess::spawn(
                          broker_.loop, broker_.config.worker_program,
                          broker_.config.control_path(), process_events()
                      )
    );
    take(std::move(process));
    // Before Start: from then on the worker may hold the session's lock.
    store_pidfd();
    return {};
}

Result<> SessionWorker::send_start() {
    if (!process_) return {};
    if (!resources_.image) return fail(ENOENT, "the image's descriptors are not known");
    protocol::StartMessage start;
    THAW_TRY(start.session, duplicate_fd(resources_.memory->fd()));
    THAW_TRY(start.uffd, duplicate_fd(resources_.uffd));
    THAW_TRY(start.vmm_pidfd, duplicate_fd(resources_.vmm));
    const ImageFiles& files = resources_.image->files;
    THAW_TRY(start.memory, files.memory.duplicate());
    if (files.map) {
        THAW_TRY(start.map, files.map.duplicate());
    }
    if (files.layers) {
        THAW_TRY(start.layers, files.layers.duplicate());
    }
    for (const Fd& base : files.bases) {
        THAW_TRY(auto copy, base.duplicate());
        start.bases.push_back(std::move(copy));
    }
    if (files.chunk_view) {
        THAW_TRY(start.chunk_map, files.chunk_view.duplicate());
    }
    if (resources_.working_set >= 0) {
        THAW_TRY(start.working_set, duplicate_fd(resources_.working_set));
    }
    THAW_TRY(start.spares, protocol::make_spare_sockets());
    THAW_CHECK(process_->send(protocol::encode(start)));
    attach_to_unit();
    return {};
}

void SessionWorker::attach_to_unit() {
    if (broker_.config.workers_unit.empty()) return;
    attaching_ = broker_.systemd.attach_processes(
        broker_.config.workers_unit, {process_->pid()},
        [this](Result<> result) { on_attached(std::move(result)); }
    );
}

void SessionWorker::on_attached(Result<> result) {
    if (result || !process_) return;
    if (attach_attempts_ < kAttachRetries.size()) {
        const auto delay = kAttachRetries[attach_attempts_++];
        auto timer = broker_.loop.add_timer(
            delay,
            [this] {
                if (process_) attach_to_unit();
            },
            "worker-attach-retry", priority::kTimer
        );
        if (timer) attach_retry_ = std::move(*timer);
        return;
    }
    // It serves all the same, only in the broker's control group.
    if (!std::exchange(broker_.attach_failed, true))
        log_warning(
            resources_.fields, "workers cannot be moved to {}: {}", broker_.config.workers_unit,
            result.error().message()
        );
}

// The worker that an earlier broker left: by its stored pidfd, else by the lock it holds.
std::unique_ptr<WorkerProcess> SessionWorker::find_survivor(Fd pidfd) {
    pid_t pid = 0;
    if (pidfd && !pidfd_has_exited(pidfd.get())) {
        pid = pidfd_to_pid(pidfd.get()).value_or(0);
    } else {
        const auto holder = resources_.memory->worker_lock_holder();
        if (holder) pid = holder->value_or(0);
        if (pid <= 0) return nullptr;
        // It holds the session's lock now, so its pid is its own.
        auto opened = pidfd_open(pid);
        if (!opened) return nullptr;
        pidfd = std::move(*opened);
        // The stored one was its predecessor's.
        if (std::exchange(stored_, false))
            broker_.store.remove(stored_name(resources_.id, FdRole::Worker));
    }
    auto adopted =
        WorkerProcess::adopt(broker_.loop, std::move(pidfd), pid, Fd(), process_events());
    return adopted ? std::move(*adopted) : nullptr;
}

void SessionWorker::adopt(Fd pidfd) {
    adopting_ = true;
    stored_ = static_cast<bool>(pidfd);
    auto survivor = find_survivor(std::move(pidfd));
    if (!survivor) {
        settle();
        count_loss("it did not outlive the broker");
        return;
    }
    take(std::move(survivor));
    if (!stored_) store_pidfd();
    auto deadline = broker_.loop.add_timer(
        broker_.config.adoption_timeout,
        [this] {
            log_notice(
                resources_.fields, "{}: worker {} lives but did not dial in; it is watched",
                resources_.memory->info().name, pid()
            );
            settle();
        },
        "worker-adoption", priority::kTimer
    );
    if (deadline) adoption_deadline_ = std::move(*deadline);
}

Result<> SessionWorker::accept(Fd channel, Peer peer) {
    if (finished_) {
        // Nobody told it: every page is in.
        (void)protocol::send_control(channel.get(), protocol::encode(protocol::ControlType::Quit));
        return fail(ESRCH, "the session needs no worker any more");
    }
    if (process_ && process_->pid() != peer.pid)
        return fail(EBUSY, "process {} serves this session", process_->pid());
    if (!process_) {
        const auto holder = resources_.memory->worker_lock_holder();
        if (!holder || holder->value_or(0) != peer.pid)
            return fail(EBUSY, "process {} does not hold the session's lock", peer.pid);
        THAW_TRY(
            auto process, WorkerProcess::adopt(
                              broker_.loop, std::move(peer.pidfd), peer.pid, Fd(), process_events()
                          )
        );
        replace_timer_.reset();
        take(std::move(process));
        store_pidfd();
    }
    THAW_CHECK(process_->attach_channel(std::move(channel)));
    protocol::WelcomeMessage welcome;
    THAW_TRY(welcome.spares, protocol::make_spare_sockets());
    THAW_CHECK(process_->send(protocol::encode(welcome)));
    attach_to_unit();
    attend();
    settle();
    return {};
}

void SessionWorker::settle() {
    adoption_deadline_.reset();
    if (std::exchange(adopting_, false)) events_.settled();
}

void SessionWorker::check(Microseconds now) {
    if (!process_ || finished_) return;
    const auto& state = resources_.memory->state();
    const FaultSigns signs{
        .oldest_fault = state.oldest_fault_ns.load(std::memory_order_relaxed) / kNsecPerUsec,
        .slow_source = state.source_slow.load(std::memory_order_relaxed) != 0,
        .unread = has_unread(resources_.uffd) || resources_.memory->has_messages(),
        .heartbeat = state.heartbeat_ns.load(std::memory_order_relaxed),
    };
    if (!detector_ || !detector_->observe(now, signs)) return;
    log_warning(
        resources_.fields, "{}: worker {} is stuck (a fault waits for more than {}), killing it",
        resources_.memory->info().name, pid(), format_timespan(broker_.config.worker_stuck)
    );
    process_->kill();
    // The next look is at its successor; this one only has to be reaped.
    detector_.emplace(now, broker_.config.worker_stuck);
}

void SessionWorker::on_message(protocol::ControlMessage message) {
    switch (message.type) {
    case protocol::ControlType::Ready:
        log_event(
            LogLevel::Info, message_id::kWorkerStarted, resources_.fields,
            "{}: worker {} serves (number {}, {})", resources_.memory->info().name, pid(),
            message.ready.generation, protocol::engine_name(message.ready.engine)
        );
        events_.serving();
        // What was asked for while there was none.
        attend();
        break;
    case protocol::ControlType::Failed:
        events_.page_lost(message.failed);
        break;
    case protocol::ControlType::Complete:
        events_.complete();
        break;
    case protocol::ControlType::Attended:
        events_.attended(message.attended);
        break;
    case protocol::ControlType::WantChunk:
        events_.want_chunk(message.want_chunk);
        break;
    case protocol::ControlType::ReplayEnded:
        events_.replay_ended(message.replay_ended);
        break;
    default:
        // VmmExited: the pidfd says so too, and that is what counts.
        break;
    }
}

void SessionWorker::on_exit(const std::string& how) {
    const auto gone = std::move(process_);
    detector_.reset();
    barrier_.reset();
    attaching_.reset();
    attach_retry_.reset();
    settle();
    if (finished_ || pidfd_has_exited(resources_.vmm)) return;
    count_loss(fmt::format("worker {} {}", gone->pid(), how));
}

void SessionWorker::attend() {
    tell(protocol::encode(protocol::ControlType::Attend));
}

void SessionWorker::tell(const protocol::EncodedMessage& message) {
    if (!process_) return;
    if (auto sent = process_->send(message); !sent)
        log_debug(resources_.fields, "{}", sent.error().message());
}

void SessionWorker::count_loss(const std::string& how) {
    if (finished_) return;
    ++broker_.workers_lost;
    // It is proven dead, and so is what it was reading.
    resources_.memory->state().used_chunk.store(0, std::memory_order_seq_cst);
    log_event(
        LogLevel::Warning, message_id::kWorkerLost, resources_.fields,
        "{}: the worker was lost: {}", resources_.memory->info().name, how
    );
    if (broker_.safe_mode) return give_up("in safe mode no worker is started");
    if (!resources_.image) return give_up("its image's descriptors were lost with it");
    const auto delay = budget_.lost(now_monotonic());
    if (!delay)
        return give_up(fmt::format(
            "{} workers were lost within {}", broker_.config.worker_restart_limit + 1,
            format_timespan(broker_.config.worker_restart_window)
        ));
    if (*delay == 0) return replace();
    auto timer =
        broker_.loop.add_timer(*delay, [this] { replace(); }, "worker-replace", priority::kVital);
    if (!timer) return give_up(timer.error().message());
    replace_timer_ = std::move(*timer);
}

void SessionWorker::replace() {
    auto replaced = launch();
    if (replaced) replaced = send_start();
    // A process without Start ends by itself or is killed, which counts as the loss.
    if (replaced) return;
    if (process_) {
        log_warning(resources_.fields, "{}", replaced.error().message());
        process_->kill();
        return;
    }
    count_loss(replaced.error().message());
}

void SessionWorker::give_up(const std::string& why) {
    events_.lost(Error(pager1::error::kWorkerLost, ECHILD, why));
}

void SessionWorker::finish() {
    finished_ = true;
    replace_timer_.reset();
    barrier_.reset();
    attaching_.reset();
    attach_retry_.reset();
    adoption_deadline_.reset();
    if (std::exchange(stored_, false))
        broker_.store.remove(stored_name(resources_.id, FdRole::Worker));
    if (!process_) return;
    auto& ending = broker_.ending;
    const void* id = process_.get();
    process_->set_events({
        .exited = [&ending, id](const std::string&) { ending.forget(id); },
        .message = [](const protocol::ControlMessage&) {},
    });
    // One that cannot be told sees the end of the VMM itself.
    if (auto sent = process_->send(protocol::encode(protocol::ControlType::Quit)); !sent)
        log_debug(resources_.fields, "{}", sent.error().message());
    ending.add(id, std::move(process_));
}

} // namespace thaw::pagerd
