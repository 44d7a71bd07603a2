// SPDX-License-Identifier: MIT
#include "background.hpp"

#include "clock.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace thaw::worker {

using protocol::PopulateState;
using protocol::ReplayKind;
using protocol::ReplayReason;
using protocol::ReplayState;

namespace {

ReplayReason reason_of(int code) {
    switch (code) {
    case ESTALE:
        return ReplayReason::ForeignImage;
    case ERANGE:
        return ReplayReason::OutOfRange;
    case EPROTONOSUPPORT:
        return ReplayReason::UnknownVersion;
    case EBADMSG:
        return ReplayReason::Damaged;
    default:
        return ReplayReason::Source;
    }
}

} // namespace

BulkBuffers::~BulkBuffers() {
    unmap();
}

Result<std::span<std::byte>> BulkBuffers::map(std::uint64_t size) {
    const std::uint64_t all = size * BulkMover::kBuffers;
    if (memory_.size() >= all) return memory_;
    unmap();
    void* base = ::mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return fail_errno(errno, "map buffers of {} bytes", all);
    memory_ = {static_cast<std::byte*>(base), all};
    return memory_;
}

void BulkBuffers::unmap() {
    if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
    memory_ = {};
}

Background::Background(const Parts& parts, int working_set, const std::string& pressure_directory)
    : parts_(parts), state_(parts.memory.state()), working_set_(working_set),
      pressure_(pressure_directory) {}

std::span<std::byte> Background::prepare() {
    if (working_set_ < 0 || !parts_.memory.prefetch().enabled) return {};
    // A file that the page cache has is read from there; else past it, which also leaves the cache
    // to those who need it. The flag belongs to the open file, which others may share: they all
    // read whole aligned blocks.
    const int flags = ::fcntl(working_set_, F_GETFL);
    ::fcntl(working_set_, F_SETFL, flags & ~O_DIRECT);
    const bool cached = image::NowaitRead(working_set_).is_at_hand(working_set_, 0, 1 << 20);
    const bool direct = !cached && ::fcntl(working_set_, F_SETFL, flags | O_DIRECT) == 0;
    state_.replay_io.store(direct ? protocol::kReplayDirect : 0, kRelaxed);
    const auto mapped =
        buffers_.map(std::max(BulkMover::kBufferSize, parts_.regions.largest_page()));
    return mapped.value_or(std::span<std::byte>());
}

void Background::set_registered(bool registered) {
    if (registered) state_.replay_io.fetch_or(protocol::kReplayRegistered, kRelaxed);
}

bool Background::is_still() const {
    return (!job_.mover || !job_.mover->is_reading()) && (!loader_ || !loader_->is_reading());
}

void Background::attend() {
    const auto& control = parts_.memory.control();
    policy_ = parts_.memory.prefetch();
    pace_.set_rate(policy_.rate);
    populate_ = control.populate.load(kRelaxed) != 0;
    quiesce_ = control.quiesce.load(kRelaxed) != 0;
    next_look_ns_ = 0;
    deadline_ = 0;
}

void Background::set_replay(ReplayState state, ReplayReason reason) {
    state_.replay_reason.store(static_cast<std::uint32_t>(reason), kRelaxed);
    state_.replay_state.store(static_cast<std::uint32_t>(state), std::memory_order_release);
}

Result<std::unique_ptr<BulkMover>> Background::make_mover(Feed& feed) {
    THAW_TRY(
        const auto memory,
        buffers_.map(std::max(BulkMover::kBufferSize, parts_.regions.largest_page()))
    );
    return std::make_unique<BulkMover>(feed, memory, parts_.source, hooks_.read);
}

// nullopt: it is being read.
std::optional<Result<image::WorkingSetTable>> Background::load_table() {
    if (!loader_) {
        loader_ = std::make_unique<WorkingSetLoader>(
            working_set_,
            image::WorkingSetOf{
                .id = parts_.memory.info().image_id, .page_count = parts_.memory.page_count()
            },
            hooks_.read
        );
        loader_->start();
    }
    if (loader_->is_reading()) return std::nullopt;
    return std::exchange(loader_, nullptr)->take();
}

void Background::begin_working_set() {
    auto loaded = load_table();
    if (!loaded) return;
    auto& table = *loaded;
    if (table && parts_.source.map_checksum() != 0 && table->header.map_checksum != 0 &&
        table->header.map_checksum != parts_.source.map_checksum())
        table = fail(ESTALE, "working-set: made from another memory.map");
    if (table && table->header.page_size != parts_.regions.largest_page())
        table = fail(ESTALE, "working-set: for pages of {} bytes", table->header.page_size);
    if (!table) {
        const auto reason = reason_of(table.error().code());
        end_replay(
            reason == ReplayReason::Source ? ReplayState::Stopped : ReplayState::Refused, reason,
            table.error().message()
        );
        return;
    }
    auto feed = std::make_unique<WorkingSetFeed>(
        working_set_, std::move(*table), parts_.memory, parts_.installer, policy_.replay_budget,
        parts_.source.is_checked()
    );
    auto mover = make_mover(*feed);
    if (!mover)
        return end_replay(ReplayState::Stopped, ReplayReason::Source, mover.error().message());
    state_.replay_total.store(feed->total_bytes(), kRelaxed);
    state_.replay_done.store(0, kRelaxed);
    state_.replay_kind.store(static_cast<std::uint32_t>(ReplayKind::WorkingSet), kRelaxed);
    job_ = {.feed = std::move(feed), .mover = std::move(*mover), .cause = Cause::Replay};
    parts_.ledger.begin_replay();
    set_replay(ReplayState::Running, ReplayReason::None);
}

// An image whose bytes are in memory anyway gains nothing from being read ahead.
bool Background::is_image_cold() const {
    constexpr std::uint64_t kProbes = 16;
    const std::uint64_t pages = parts_.memory.page_count();
    std::uint64_t cold = 0;
    for (std::uint64_t i = 0; i < kProbes; ++i) {
        const std::uint64_t at = pages / kProbes * i * protocol::kBitPage;
        cold += parts_.source.is_at_hand(at) ? 0 : 1;
    }
    return cold > kProbes / 2;
}

void Background::begin_sequential() {
    if (policy_.sequential_budget == 0 || !is_image_cold()) {
        replay_over_ = true;
        return;
    }
    auto feed = std::make_unique<MemoryFeed>(
        MemoryFeed::Parts{parts_.memory, parts_.regions, parts_.source, parts_.installer},
        Cause::Replay, policy_.sequential_budget
    );
    auto mover = make_mover(*feed);
    if (!mover)
        return end_replay(ReplayState::Stopped, ReplayReason::Source, mover.error().message());
    state_.replay_total.store(
        std::min(policy_.sequential_budget, parts_.memory.info().memory_size), kRelaxed
    );
    state_.replay_done.store(0, kRelaxed);
    state_.replay_kind.store(static_cast<std::uint32_t>(ReplayKind::Sequential), kRelaxed);
    job_ = {.feed = std::move(feed), .mover = std::move(*mover), .cause = Cause::Replay};
    parts_.ledger.begin_replay();
    set_replay(ReplayState::Running, ReplayReason::None);
}

void Background::begin_populate() {
    auto feed = std::make_unique<MemoryFeed>(
        MemoryFeed::Parts{parts_.memory, parts_.regions, parts_.source, parts_.installer},
        Cause::Populate, 0
    );
    auto mover = make_mover(*feed);
    if (!mover) return hooks_.populate_failed();
    job_ = {.feed = std::move(feed), .mover = std::move(*mover), .cause = Cause::Populate};
    state_.populate_state.store(static_cast<std::uint32_t>(PopulateState::Running), kRelaxed);
}

void Background::begin() {
    const auto phase = state_.phase.load(std::memory_order_acquire);
    const auto populate_state = state_.populate_state.load(kRelaxed);
    if (!replay_over_ && policy_.enabled) {
        const auto before = static_cast<ReplayState>(state_.replay_state.load(kRelaxed));
        // What a predecessor ended stays ended; what it was at is gone through again, and skipped.
        if (before == ReplayState::Done || before == ReplayState::Stopped ||
            before == ReplayState::Refused)
            replay_over_ = true;
        else if (working_set_ >= 0)
            begin_working_set();
        else
            begin_sequential();
        if (job_.mover || loader_) return;
    }
    if (populate_ && phase != static_cast<std::uint32_t>(protocol::WorkerPhase::Complete) &&
        populate_state != static_cast<std::uint32_t>(PopulateState::Failed))
        begin_populate();
}

void Background::end_replay(ReplayState state, ReplayReason reason, const std::string& why) {
    job_ = {};
    replay_over_ = true;
    state_.counters.replay_done_ns.store(now_ns(), kRelaxed);
    set_replay(state, reason);
    hooks_.release_buffers();
    if (!populate_) buffers_.unmap();
    hooks_.replay_ended({.state = state, .reason = reason}, why);
}

// All regions gone through: proof, another round for what could not be had, or giving up.
void Background::end_populate() {
    constexpr unsigned kRounds = 4;
    job_ = {};
    const bool covered = std::ranges::all_of(parts_.regions.regions(), [this](const auto& region) {
        return parts_.memory.is_covered(region);
    });
    if (covered) {
        buffers_.unmap();
        hooks_.populated();
        return;
    }
    if (++populate_rounds_ < kRounds) {
        deadline_ = now_ns() + 100 * kNsPerMs;
        return;
    }
    buffers_.unmap();
    hooks_.populate_failed();
}

} // namespace thaw::worker
