// SPDX-License-Identifier: MIT
#pragma once

// Everything that is known of a volume, as last measured; and how it comes from measurements.
// Pure: the volume's object (volume.hpp) feeds it and publishes what changed.

#include "action_policy.hpp"
#include "config.hpp"
#include "level_policy.hpp"
#include "reserve/measure.hpp"
#include "reserve/plan.hpp"
#include "reserve/rearm.hpp"

#include <optional>
#include <string>

namespace thaw::diskguard {

class VolumeState {
public:
    explicit VolumeState(const Config& config) : config_(config) {}

    // A cheap look: free space only.
    void observe(Microseconds now, const reserve::Space& space);
    // A whole look.
    void observe(Microseconds now, const reserve::Measurement& measured);
    // The plan for this file system: made at the first look that shows all it needs.
    const reserve::Plan& plan_for(const reserve::Space& space, std::string_view type);
    // After the last measurement.
    reserve::RearmDecision decide_rearm(Microseconds now);
    // We moved bytes ourselves.
    void forget_growth();
    // The last look failed: until the next one nothing may be claimed of the reserve.
    void fail_look(std::string problem);
    // The last attempt to lay or heal; nothing when it went well.
    void set_problem(std::optional<std::string> problem) { problem_ = std::move(problem); }

    bool known() const { return space_.has_value(); }
    // As measured last; zeros before known().
    reserve::Space space() const { return space_.value_or(reserve::Space{}); }
    const std::optional<reserve::Measurement>& measured() const { return measured_; }
    const std::optional<reserve::Plan>& plan() const { return plan_; }
    const reserve::RearmDecision& rearm() const { return rearm_; }
    const std::optional<std::string>& problem() const {
        return look_problem_ ? look_problem_ : problem_;
    }
    reserve::State state() const;
    Level level() const { return std::max(bytes_.level(), inodes_.level()); }
    Level bytes_level() const { return bytes_.level(); }
    Level inodes_level() const { return inodes_.level(); }
    // The level if what a release gave were taken again.
    Level level_without_reserve() const;
    std::int64_t rate() const { return growth_.bytes_per_second(); }
    Microseconds time_to_full() const;
    Microseconds next_poll() const;

private:
    Room bytes_room() const { return {space().total, space().available}; }
    Microseconds inode_poll() const;
    Room inodes_room() const { return {space().inodes_total, space().inodes_available}; }

    const Config& config_;
    std::optional<reserve::Space> space_;
    std::optional<reserve::Measurement> measured_;
    std::optional<reserve::Plan> plan_;
    reserve::RearmClock clock_;
    reserve::RearmDecision rearm_;
    std::optional<std::string> look_problem_;
    std::optional<std::string> problem_;
    LevelTracker bytes_;
    LevelTracker inodes_;
    GrowthRate growth_;
    GrowthRate inode_growth_;
    std::uint64_t still_ = 0;
};

} // namespace thaw::diskguard
