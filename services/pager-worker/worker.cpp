// SPDX-License-Identifier: MIT
#include "worker.hpp"

#include "background.hpp"
#include "chunk_gate.hpp"
#include "clock.hpp"
#include "core/pidfd.hpp"
#include "core/text.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "sandbox.hpp"
#include "session_setup.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>

namespace thaw::worker {

using protocol::ControlType;
using protocol::FailureReason;
using protocol::SessionMemory;
using protocol::StartMessage;
using protocol::WorkerPhase;

namespace {

// How often the heart beats while a source is waited for: often within the WorkerStuckSec= that the
// broker may have.
constexpr std::uint64_t kSlowSourceBeatNs = 50'000'000;

// Whose read it was.
constexpr std::uint64_t kBulkToken = std::uint64_t{1} << 32;

class Worker {
public:
    Worker(OpenSession session, const WorkerOptions& options)
        : start_(std::move(session.start)), memory_(std::move(session.memory)),
          regions_(std::move(session.regions)), source_(std::move(session.source)),
          reads_(std::move(session.reads)), gate_(make_gate(session.chunks)),
          installer_(start_.uffd.get(), memory_.state().last_copy),
          tracker_(memory_, regions_, installer_), ring_(memory_.ring()), ledger_(memory_),
          runs_(memory_, regions_, tracker_, ledger_, source_.zeros()),
          handler_(
              memory_, regions_, installer_, tracker_, source_, reads_, ledger_, runs_,
              [this](const auto& lost) { report_loss(lost); }
          ),
          background_(
              {memory_, regions_, source_, ledger_, runs_}, start_.working_set.get(),
              options.pressure_directory
          ) {}
    Worker(const Worker&) = delete; // its parts point at each other
    Worker& operator=(const Worker&) = delete;

    Result<> prepare(Fd channel, const WorkerOptions& options);
    Result<> adopt();
    Result<> loop();
    // Writes down why this worker ends although the VMM lives, and tells the broker.
    void abandon(FailureReason reason, const Error& error);

private:
    void report_loss(const protocol::FailedMessage& lost);
    void report_replay(const protocol::ReplayEndedMessage& ended, const std::string& why);
    void report_populate(bool complete);
    void report_tracking(int errno_value) const;
    std::unique_ptr<ChunkGate> make_gate(std::optional<protocol::ChunkMap>& chunks);
    Result<> read(const ReadRequest& request);
    void attend_chunks(const ControlChannel::Wishes& wishes);
    void connect_parts();
    void take_reads(std::span<const ReadEnd> ends);
    void attend();
    void answer_attention();
    Result<bool> attend_channel(bool readable);
    bool may_quit() const;

    StartMessage start_;
    SessionMemory memory_;
    RegionMap regions_;
    PageSource source_;
    DemandReads reads_;
    std::unique_ptr<ChunkGate> gate_; // of a remote image
    Installer installer_;
    Tracker tracker_;
    MessageRing ring_;
    Ledger ledger_;
    RunInstaller runs_;
    FaultHandler handler_;
    Background background_;
    std::unique_ptr<FaultEngine> engine_;
    std::unique_ptr<ControlChannel> channel_; // from prepare() on
    std::uint64_t losses_ = 0;
    std::uint32_t serial_ = 0; // of SessionControl, as attended to
    bool unanswered_ = false;  // the broker waits for Attended
};

Result<> Worker::prepare(Fd channel, const WorkerOptions& options) {
    auto& state = memory_.state();
    const FaultEngine::Descriptors watched{
        .uffd = start_.uffd.get(),
        .vmm_pidfd = start_.vmm_pidfd.get(),
        .read_buffer = background_.prepare(),
    };
    THAW_CHECK(set_nonblocking(start_.uffd.get(), true));
    THAW_CHECK(set_nonblocking(channel.get(), true));
    THAW_TRY(engine_, make_engine(options.engine, watched, ring_, handler_));
    protocol::HelloView hello{
        .session_id = memory_.info().session_id,
        .session = memory_.fd(),
        .uffd = start_.uffd.get(),
        .vmm_pidfd = start_.vmm_pidfd.get(),
        .memory = start_.memory.get(),
        .map = start_.map.get(),
        .working_set = start_.working_set.get(),
        .layers = start_.layers.get(),
        .chunk_map = start_.chunk_map.get(),
    };
    for (const Fd& base : start_.bases)
        hello.bases.push_back(base.get());
    connect_parts();
    channel_ = std::make_unique<ControlChannel>(
        std::move(channel), std::move(start_.spares), options.control_path, hello
    );
    THAW_CHECK(engine_->watch_channel(channel_->fd()));

    state.engine.store(static_cast<std::uint32_t>(engine_->kind()), std::memory_order_relaxed);
    state.worker_pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
    const auto generation = state.generation.fetch_add(1, std::memory_order_relaxed) + 1;
    // Also opens the way to the journal, which the sandbox would not let us do later.
    log_info(
        log_fields(memory_), "worker {} of VM {} serves {} with {}", generation,
        memory_.info().name, format_size(memory_.info().memory_size),
        protocol::engine_name(engine_->kind())
    );
    return enter_sandbox();
}

std::unique_ptr<ChunkGate> Worker::make_gate(std::optional<protocol::ChunkMap>& chunks) {
    if (!chunks) return nullptr;
    auto gate = std::make_unique<ChunkGate>(memory_, start_.memory.get(), std::move(*chunks));
    source_.read_through(*gate);
    gate->set_ask([this](const protocol::WantChunkMessage& wanted) {
        channel_->send(protocol::encode(wanted), now_ns());
    });
    return gate;
}

Result<> Worker::read(const ReadRequest& request) {
    if (!source_.is_gated(request.fd)) return engine_->read(request);
    gate_->read(request);
    return {};
}

void Worker::connect_parts() {
    tracker_.set_failed_hook([this](int errno_value) { report_tracking(errno_value); });
    background_.set_registered(engine_->has_registered_buffer());
    reads_.connect(source_, [this](const ReadRequest& request) { return read(request); });
    background_.set_hooks({
        .read =
            [this](ReadRequest request) {
                request.token |= kBulkToken;
                return read(request);
            },
        .release_buffers = [this] { engine_->release_buffer(); },
        .replay_ended = [this](const auto& ended, const auto& why) { report_replay(ended, why); },
        .populated = [this] { report_populate(true); },
        .populate_failed = [this] { report_populate(false); },
    });
}

Result<> Worker::adopt() {
    auto& state = memory_.state();
    state.phase.store(static_cast<std::uint32_t>(WorkerPhase::Adopting), std::memory_order_release);
    // What a predecessor had read comes first, then what is still in the kernel; only then may a
    // page be filled. Faults it had read are forgotten with it: waking everybody brings them back.
    tracker_.begin();
    const std::size_t left = ring_.replay(handler_);
    state.counters.replayed_messages.fetch_add(left, std::memory_order_relaxed);
    if (state.generation.load(std::memory_order_relaxed) > 1)
        state.counters.adoptions.fetch_add(1, std::memory_order_relaxed);
    state.oldest_fault_ns.store(0, std::memory_order_relaxed);
    THAW_CHECK(engine_->drain());
    runs_.settle_predecessor();
    handler_.wake_all();
    const auto now = now_ns();
    state.serving_since_ns.store(now, std::memory_order_relaxed);
    state.heartbeat_ns.store(now, std::memory_order_relaxed);
    const bool failed = state.failure.reason.load(std::memory_order_acquire) != 0;
    const auto phase = failed ? WorkerPhase::Failed : WorkerPhase::Serving;
    state.phase.store(static_cast<std::uint32_t>(phase), std::memory_order_release);
    channel_->send(
        protocol::encode(protocol::ReadyMessage{
            .generation = state.generation.load(std::memory_order_relaxed),
            .engine = engine_->kind(),
            .memory_lock =
                static_cast<protocol::MemoryLock>(state.memory_lock.load(std::memory_order_relaxed)
                ),
        }),
        now
    );
    attend();
    // A first worker that is asked for nothing has nothing to answer.
    if (!background_.wants_quiet() && tracker_.is_settled()) {
        state.quiesced.store(0, std::memory_order_release);
        state.control_serial.store(serial_, std::memory_order_release);
        unanswered_ = false;
    }
    return {};
}

void Worker::report_replay(const protocol::ReplayEndedMessage& ended, const std::string& why) {
    channel_->send(protocol::encode(ended), now_ns());
    if (ended.state == protocol::ReplayState::Done) return;
    log_event(
        LogLevel::Warning, message_id::kReplayEnded, log_fields(memory_),
        "VM {}: the working set of image {} is not replayed{}: {} ({})", memory_.info().name,
        memory_.info().image_name,
        ended.state == protocol::ReplayState::Stopped ? " to its end" : "",
        protocol::replay_reason_name(static_cast<std::uint32_t>(ended.reason)), why
    );
}

void Worker::report_populate(bool complete) {
    auto& state = memory_.state();
    const auto now = now_ns();
    const auto result = complete ? protocol::PopulateState::Done : protocol::PopulateState::Failed;
    state.populate_state.store(static_cast<std::uint32_t>(result), std::memory_order_release);
    if (!complete) {
        log_warning(
            log_fields(memory_), "VM {}: not all pages can be read; they are served as before",
            memory_.info().name
        );
        unanswered_ = true;
        return;
    }
    state.populate_done.store(memory_.info().memory_size, std::memory_order_relaxed);
    state.counters.last_page_ns.store(now, std::memory_order_relaxed);
    state.phase.store(static_cast<std::uint32_t>(WorkerPhase::Complete), std::memory_order_release);
    channel_->send(protocol::encode(ControlType::Complete), now);
}

void Worker::report_tracking(int errno_value) const {
    log_event(
        LogLevel::Warning, message_id::kTrackingFailed, log_fields(memory_),
        "VM {}: what its guest writes cannot be tracked any more: {}", memory_.info().name,
        errno_text(errno_value)
    );
}

void Worker::report_loss(const protocol::FailedMessage& lost) {
    constexpr std::uint64_t kLogged = 10; // a rotten image would fill the journal
    channel_->send(protocol::encode(lost), now_ns());
    if (++losses_ > kLogged) return;
    log_event(
        LogLevel::Error, message_id::kPageUnservable, log_fields(memory_),
        "VM {}: page at offset {} of image {} cannot be served: {} ({})", memory_.info().name,
        lost.page_offset, memory_.info().image_name,
        protocol::failure_reason_name(static_cast<std::uint32_t>(lost.reason)),
        errno_text(lost.errno_value)
    );
    if (losses_ == kLogged)
        log_warning(
            log_fields(memory_), "VM {}: further pages are only counted", memory_.info().name
        );
}

// The last descriptor of a userfaultfd must not be closed while its VMM lives: the guest would read
// zeros.
bool Worker::may_quit() const {
    const auto phase = memory_.state().phase.load(std::memory_order_acquire);
    return handler_.vmm_is_gone() || pidfd_has_exited(start_.vmm_pidfd.get()) ||
           phase == static_cast<std::uint32_t>(WorkerPhase::Complete);
}

// What the broker wants has changed, perhaps; it may also have died before it could say so.
void Worker::attend() {
    serial_ = memory_.control().serial.load(std::memory_order_acquire);
    background_.attend();
    tracker_.attend();
    unanswered_ = true;
}

void Worker::answer_attention() {
    auto& state = memory_.state();
    const bool quiet = background_.wants_quiet();
    if (quiet && !(background_.is_still() && handler_.is_idle())) return; // later, then
    if (!tracker_.is_settled()) return;
    state.quiesced.store(quiet ? 1 : 0, std::memory_order_release);
    state.control_serial.store(serial_, std::memory_order_release);
    unanswered_ = false;
    channel_->send(
        protocol::encode(protocol::AttendedMessage{
            .serial = serial_,
            .quiesced = quiet,
            .tracking = static_cast<protocol::TrackState>(state.tracking.load()),
        }),
        now_ns()
    );
}

Result<bool> Worker::attend_channel(bool readable) {
    const std::uint64_t now = now_ns();
    const int before = channel_->fd();
    ControlChannel::Wishes wishes;
    if (readable) wishes = channel_->receive(now);
    if (channel_->fd() != before) THAW_CHECK(engine_->watch_channel(-1));
    if (channel_->fd() < 0 && channel_->dial(now)) {
        THAW_CHECK(engine_->watch_channel(channel_->fd()));
        if (gate_) gate_->ask_again(now); // this broker has not heard it
    }
    attend_chunks(wishes);
    if (wishes.attend || memory_.control().serial.load(std::memory_order_acquire) != serial_)
        attend();
    if (wishes.quit && !may_quit()) {
        log_warning(log_fields(memory_), "told to quit while the VMM lives: refused");
        wishes.quit = false;
    }
    return wishes.quit;
}

void Worker::attend_chunks(const ControlChannel::Wishes& wishes) {
    if (!gate_) return;
    for (const auto& message : wishes.landed)
        gate_->landed(message.chunk);
    for (const auto& message : wishes.failed)
        gate_->failed(message.chunk, message.errno_value);
}

void Worker::take_reads(std::span<const ReadEnd> ends) {
    for (const ReadEnd& end : ends)
        if ((end.token & kBulkToken) != 0)
            background_.read_ended(end.token & ~kBulkToken, end.result);
        else
            handler_.read_ended(end.token, end.result);
}

Result<> Worker::loop() {
    auto& state = memory_.state();
    for (;;) {
        auto deadline = std::min(
            {handler_.next_deadline(), channel_->next_deadline(), background_.next_deadline(),
             tracker_.next_deadline()}
        );
        // The broker is patient with a source that is slow as long as the heart beats.
        if (state.source_slow.load(std::memory_order_relaxed) != 0)
            deadline = std::min(deadline, now_ns() + kSlowSourceBeatNs);
        if (gate_) deadline = gate_->has_ends() ? 0 : std::min(deadline, gate_->next_deadline());
        THAW_TRY(const EngineEvents events, engine_->wait(deadline));
        // A fault that was just read brings the time with it: looking costs as much as a lookup.
        const std::uint64_t batch = handler_.batch_time();
        const std::uint64_t now = batch != 0 ? batch : now_ns();
        state.heartbeat_ns.store(now, std::memory_order_relaxed);
        if (events.vmm_exited) {
            channel_->send(protocol::encode(ControlType::VmmExited), now_ns());
            return {};
        }
        if (!events.reads.empty()) take_reads(events.reads);
        if (gate_) {
            if (now >= gate_->next_deadline()) gate_->ask_again(now);
            if (gate_->has_ends()) take_reads(gate_->take_ends());
        }
        handler_.serve(now);
        if (events.channel || channel_->next_deadline() != kNever) {
            THAW_TRY(const bool quit, attend_channel(events.channel));
            if (quit) return {};
        }
        // Idle work, one step at a time, with a look at the messages between any two.
        if (background_.next_deadline() != kNever && !handler_.vmm_is_gone())
            background_.step(now_ns());
        if (!tracker_.is_settled() && !handler_.vmm_is_gone()) tracker_.step(now_ns());
        if (unanswered_) answer_attention();
    }
}

void Worker::abandon(FailureReason reason, const Error& error) {
    // A message that was lost may have been a removal.
    tracker_.fail(error.code());
    auto& record = memory_.state().failure;
    if (record.reason.load(std::memory_order_acquire) == 0) {
        record.errno_value.store(error.code(), std::memory_order_relaxed);
        record.when_ns.store(now_ns(), std::memory_order_relaxed);
        record.reason.store(static_cast<std::uint32_t>(reason), std::memory_order_release);
    }
    if (!channel_) return;
    channel_->send(
        protocol::encode(protocol::FailedMessage{
            .reason = reason, .errno_value = error.code(), .page_offset = 0, .fatal = true
        }),
        now_ns()
    );
}

Result<> serve_session(Worker& worker, Fd channel, const WorkerOptions& options) {
    if (auto ready = worker.prepare(std::move(channel), options); !ready) {
        worker.abandon(FailureReason::Resources, ready.error());
        return ready;
    }
    auto served = worker.adopt();
    if (served) served = worker.loop();
    if (!served) worker.abandon(FailureReason::UffdRead, served.error());
    return served;
}

} // namespace

Result<> run_worker(Fd channel, const WorkerOptions& options) {
    const std::uint64_t started = now_ns();
    THAW_TRY(StartMessage start, receive_start(channel.get()));
    // From here on only the end of the VMM ends us.
    struct sigaction ignore{};
    ignore.sa_handler = SIG_IGN;
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2})
        ::sigaction(number, &ignore, nullptr);
    FailureReason reason = FailureReason::None;
    auto session = open_session(std::move(start), reason);
    if (!session) {
        const protocol::FailedMessage failure{
            .reason = reason,
            .errno_value = session.error().code(),
            .page_offset = 0,
            .fatal = true,
        };
        // Without it the end of this process tells the broker as much, only not why.
        if (const auto told = protocol::send_control(channel.get(), protocol::encode(failure));
            !told)
            log_debug("the broker was not told: {}", told.error().message());
        return std::unexpected(std::move(session).error());
    }
    session->memory.state().worker_started_ns.store(started, std::memory_order_relaxed);
    const std::string title = "thaw-pw " + session->memory.info().name;
    ::prctl(PR_SET_NAME, title.c_str()); // the kernel cuts it to 15 bytes
    const auto worker = std::make_unique<Worker>(std::move(*session), options);
    return serve_session(*worker, std::move(channel), options);
}

} // namespace thaw::worker
