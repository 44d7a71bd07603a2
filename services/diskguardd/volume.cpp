// SPDX-License-Identifier: MIT
#include "volume.hpp"

#include "core/file.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

namespace thaw::diskguard {

namespace {

// How often a whole reserve is looked at while nothing is wrong with it, at least.
constexpr Microseconds kWholeEvery = 10 * kUsecPerSec;
// A file system that takes longer than this to answer hangs.
constexpr Microseconds kHangs = 30 * kUsecPerSec;

// One statfs of an O_PATH descriptor that is closed at once: it pins the mount for microseconds.
Result<reserve::Space> space_at(const reserve::Volume& volume) {
    THAW_TRY(const auto fd, open_file(volume.mount_point, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, "stat {}", volume.mount_point);
    if (st.st_dev != volume.root_device)
        return fail(ESTALE, "{} is another file system now", volume.mount_point);
    return reserve::space_of(fd.get());
}

std::string_view level_message(Level level) {
    if (level == Level::Full) return message_id::kSpaceFull;
    if (level == Level::Critical) return message_id::kSpaceCritical;
    if (level == Level::Low) return message_id::kSpaceLow;
    return message_id::kSpaceNormal;
}

LogLevel level_priority(Level level) {
    if (level == Level::Full) return LogLevel::Error;
    if (level >= Level::Low) return LogLevel::Warning;
    return LogLevel::Notice;
}

} // namespace

struct Volume::Look {
    reserve::Space space;
    std::optional<reserve::Measurement> measured;
};

Result<std::unique_ptr<Volume>> Volume::create(const Guard& guard, reserve::Volume found) {
    THAW_TRY(auto worker, Worker::start(guard.mailbox, "vol " + found.mount_point));
    auto volume = std::unique_ptr<Volume>(new Volume(guard, std::move(found), std::move(worker)));
    THAW_TRY(
        volume->timer_, guard.loop.add_timer(
                            guard.config.poll.slowest, [self = volume.get()] { self->on_timer(); },
                            "volume-look", priority::kTimer
                        )
    );
    return volume;
}

Volume::Volume(const Guard& guard, reserve::Volume found, std::unique_ptr<Worker> worker)
    : guard_(guard), found_(std::move(found)),
      path_(encode_object_path(diskguard1::kVolumePrefix, found_.id)), state_(guard.config),
      worker_(std::move(worker)),
      writers_(guard_.pauses.contains(found_.id) ? Writers::Pause : Writers::Continue) {}

void Volume::set_found(reserve::Volume found) {
    const bool moved = found.mount_point != found_.mount_point;
    const bool other =
        moved || found.root_device != found_.root_device || found.read_only != found_.read_only;
    found_ = std::move(found);
    if (moved) changed({"MountPoint"});
    if (other) look(true);
}

LogFields Volume::log_fields() const {
    LogFields fields{
        {"THAW_VOLUME", found_.id},
        {"THAW_MOUNT_POINT", found_.mount_point},
    };
    if (state_.known()) {
        fields.push_back({"THAW_FREE_BYTES", std::to_string(state_.space().available)});
        fields.push_back({"THAW_TOTAL_BYTES", std::to_string(state_.space().total)});
        fields.push_back({"THAW_FREE_INODES", std::to_string(state_.space().inodes_available)});
    }
    return fields;
}

// ---- looking --------------------------------------------------------------------------------

void Volume::on_timer() {
    const auto oldest = worker_->oldest();
    if (oldest != kInfinity && now_monotonic() - oldest > kHangs && !std::exchange(hung_, true)) {
        state_.fail_look("the file system does not answer");
        publish();
        say_state();
    }
    look(false);
}

void Volume::look(bool whole) {
    // The timer goes on meanwhile: it is what notices a file system that hangs.
    (void)timer_.rearm(guard_.config.poll.slowest);
    if (looking_) {
        again_ = true;
        again_whole_ = again_whole_ || whole;
        return;
    }
    looking_ = true;
    const auto now = now_monotonic();
    const auto& measured = state_.measured();
    // A reserve that is not whole, or never was seen, is watched more closely.
    whole = whole || !measured || state_.state() != reserve::State::Armed ||
            now - last_whole_ >= std::min(kWholeEvery, guard_.config.poll.slowest);
    if (whole) last_whole_ = now;
    worker_->run<Result<Look>>(
        [volume = found_, plan = state_.plan(), setting = guard_.config.reserve,
         whole]() -> Result<Look> {
            Look look;
            THAW_TRY(look.space, space_at(volume));
            if (!whole) return look;
            const auto wanted = plan && !plan->provisional
                                    ? *plan
                                    : reserve::plan_reserve(setting, look.space, volume.type);
            THAW_TRY(look.measured, reserve::measure(volume, wanted));
            return look;
        },
        [this](Result<Look> look) { on_looked(std::move(look)); }
    );
}

void Volume::on_looked(Result<Look> look) {
    looked_at_ = now_realtime();
    hung_ = false;
    if (!look) return on_failed_look(look.error());
    const auto& measured = look->measured;
    if (!measured && !state_.measured()) {
        // What was known of the reserve was given up while this look was under way.
        again_ = again_whole_ = true;
        return schedule();
    }
    const auto before = state_.level();
    const auto now = now_monotonic();
    (void)state_.plan_for(look->space, found_.type);
    if (measured) {
        state_.observe(now, *measured);
        (void)state_.decide_rearm(now);
    } else {
        state_.observe(now, look->space);
    }
    publish();
    publish_level(before);
    act();
}

void Volume::on_failed_look(const Error& error) {
    const bool moved = error.code() == ESTALE || error.code() == ENOENT;
    state_.fail_look(error.message());
    publish();
    if (moved)
        guard_.owner.volume_moved(*this); // a new search finds it elsewhere, or not at all
    else
        say_state();
    schedule();
}

void Volume::schedule() {
    looking_ = false;
    if (std::exchange(again_, false)) return look(std::exchange(again_whole_, false));
    if (auto armed = timer_.rearm(state_.next_poll()); !armed)
        log_error(log_fields(), "{}", armed.error().message());
}

void Volume::measure_space(std::function<void(Result<reserve::Space>)> handler) {
    worker_->run<Result<reserve::Space>>(
        [volume = found_] { return space_at(volume); },
        [this, handler = std::move(handler)](Result<reserve::Space> space) {
            if (!space && space.error().code() == ESTALE) guard_.owner.volume_moved(*this);
            handler(std::move(space));
        }
    );
}

// ---- publishing -----------------------------------------------------------------------------

void Volume::changed(std::vector<std::string> properties) {
    // Nobody may be listening, or the bus may be going; both are fine.
    (void
    )guard_.bus.emit_properties_changed(path_, diskguard1::kVolumeInterface, std::move(properties));
}

// The one writer of what is shown.
void Volume::publish() {
    std::vector<std::string> properties;
    const auto show = [&](auto& shown, auto value, const char* property) {
        if (shown == value) return;
        shown = std::move(value);
        properties.emplace_back(property);
    };
    const auto level = std::max(shown_bytes_, shown_inodes_);
    show(shown_state_, state_.state(), "State");
    show(shown_reason_, state_.problem().value_or(""), "StateReason");
    show(shown_bytes_, state_.bytes_level(), "BytesLevel");
    show(shown_inodes_, state_.inodes_level(), "InodesLevel");
    if (std::max(shown_bytes_, shown_inodes_) != level) properties.emplace_back("Level");
    if (properties.empty()) return;
    changed(std::move(properties));
    guard_.owner.volume_changed(*this);
}

void Volume::publish_level(Level before) {
    const auto level = state_.level();
    if (level != before) {
        auto fields = log_fields();
        fields.push_back({"THAW_LEVEL", std::string(diskguard1::kLevelNames.name(level))});
        const auto left = state_.time_to_full();
        // The first look at a healthy volume is no news.
        if (before != Level::Unknown || level != Level::Normal)
            log_event(
                level_priority(level), level_message(level), fields, "{} is {}: {} of {} free{}{}",
                found_.mount_point, diskguard1::kLevelNames.name(level),
                format_size(state_.space().available), format_size(state_.space().total),
                state_.inodes_level() > Level::Normal
                    ? fmt::format(", {} inodes free", state_.space().inodes_available)
                    : "",
                left == kInfinity || level == Level::Full
                    ? ""
                    : fmt::format(
                          ", full in {} at this rate",
                          format_timespan(left / kUsecPerSec * kUsecPerSec)
                      )
            );
        guard_.owner.level_changed(*this, before);
    }
    decide_writers();
    release_if_wanted();
}

void Volume::decide_writers() {
    const auto wanted = diskguard::decide_writers(
        guard_.config.writers, writers_, state_.level(), state_.level_without_reserve()
    );
    if (wanted == writers_) return;
    writers_ = wanted;
    writers_stopped_ = false;
    if (auto noted = guard_.pauses.set(id(), writers_ == Writers::Pause); !noted)
        log_warning(log_fields(), "{}", noted.error().message());
    changed({"Writers"});
    if (writers_ == Writers::Pause)
        guard_.owner.action_taken(*this, "pause-writers", "the volume is full and Writers=pause");
    else
        guard_.owner.action_taken(*this, "resume-writers", "there is room again");
}

void Volume::writers_reported(bool stopped, std::uint32_t count) {
    writers_stopped_ = stopped && writers_ == Writers::Pause;
    log_info(
        log_fields(), "{}: {} writers were {}", found_.mount_point, count,
        stopped ? "paused" : "resumed"
    );
    release_if_wanted();
}

} // namespace thaw::diskguard
