// SPDX-License-Identifier: MIT
#include "volume_state.hpp"

#include <algorithm>

namespace thaw::diskguard {

namespace {

// Metadata breathes; less than this is nobody writing.
constexpr std::uint64_t kStillBytes = 64 << 10;
constexpr std::uint64_t kStillInodes = 16;
// What an inode stands for when it comes to how fast a volume can fill: nobody makes files faster
// than others write blocks.
constexpr std::uint64_t kBytesPerInode = 4096;

std::uint64_t difference(std::uint64_t a, std::uint64_t b) {
    return a > b ? a - b : b - a;
}

} // namespace

void VolumeState::observe(Microseconds now, const reserve::Space& space) {
    look_problem_.reset();
    const bool same = space_ && difference(space_->available, space.available) < kStillBytes &&
                      difference(space_->inodes_available, space.inodes_available) < kStillInodes;
    still_ = same ? still_ + 1 : 0;
    space_ = space;
    growth_.observe(now, space.available);
    inode_growth_.observe(now, space.inodes_available);
    bytes_.observe(now, bytes_room(), config_.bytes, config_.margin_percent, config_.settle);
    inodes_.observe(now, inodes_room(), config_.inodes, config_.margin_percent, config_.settle);
}

void VolumeState::observe(Microseconds now, const reserve::Measurement& measured) {
    observe(now, measured.space);
    measured_ = measured;
}

void VolumeState::fail_look(std::string problem) {
    look_problem_ = std::move(problem);
    measured_.reset();
    rearm_ = {};
    clock_ = {};
}

void VolumeState::forget_growth() {
    growth_.forget();
    inode_growth_.forget();
}

const reserve::Plan& VolumeState::plan_for(const reserve::Space& space, std::string_view type) {
    if (!plan_ || plan_->provisional) plan_ = reserve::plan_reserve(config_.reserve, space, type);
    return *plan_;
}

reserve::RearmDecision VolumeState::decide_rearm(Microseconds now) {
    rearm_ = measured_ ? reserve::decide_rearm(config_.rearm, *measured_, now, clock_)
                       : reserve::RearmDecision{};
    return rearm_;
}

reserve::State VolumeState::state() const {
    if (look_problem_ || !measured_) return reserve::State::Failed;
    return reserve::judge(
        *measured_, rearm_.action == reserve::RearmAction::Deferred, problem_.has_value()
    );
}

Level VolumeState::level_without_reserve() const {
    if (!space_) return Level::Unknown;
    auto room = bytes_room();
    room.free = available(room.free, measured_ ? measured_->missing : 0);
    return std::max(
        next_level(bytes_.level(), room, config_.bytes, config_.margin_percent), inodes_.level()
    );
}

Microseconds VolumeState::time_to_full() const {
    return space_ ? growth_.time_to_full(space_->available) : kInfinity;
}

Microseconds VolumeState::inode_poll() const {
    const auto room = inodes_room();
    if (room.total == 0) return config_.poll.slowest;
    const auto left = distance_to_worse(inodes_.level(), room, config_.inodes);
    const auto rate = inode_growth_.bytes_per_second(); // of inodes, that is
    constexpr auto kMostRate = INT64_MAX / static_cast<std::int64_t>(kBytesPerInode);
    return diskguard::next_poll(
        std::min(left, UINT64_MAX / kBytesPerInode) * kBytesPerInode,
        std::clamp(rate, -kMostRate, kMostRate) * static_cast<std::int64_t>(kBytesPerInode), still_,
        config_.poll
    );
}

Microseconds VolumeState::next_poll() const {
    if (!space_) return config_.poll.slowest;
    auto wait = diskguard::next_poll(
        distance_to_worse(bytes_.level(), bytes_room(), config_.bytes), growth_.bytes_per_second(),
        still_, config_.poll
    );
    wait = std::min(wait, inode_poll());
    // A better level waits to be believed.
    const auto plain =
        std::max(level_of(bytes_room(), config_.bytes), level_of(inodes_room(), config_.inodes));
    if (plain < level()) wait = std::min(wait, std::max(config_.poll.fastest, config_.settle / 4));
    if (rearm_.action == reserve::RearmAction::Waiting)
        wait = std::min(wait, std::max(rearm_.wait, config_.poll.fastest));
    return wait;
}

} // namespace thaw::diskguard
