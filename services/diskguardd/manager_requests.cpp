// SPDX-License-Identifier: MIT
// What callers ask for: which volume, who may, what is measured, and the answer.
#include "api/diskguard1.hpp"
#include "bus/errors.hpp"
#include "bus/flags.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"

#include <algorithm>
#include <utility>

namespace thaw::diskguard {

namespace error = diskguard1::error;

namespace {

// A caller's own patience is 25 s by default; it shall hear why.
constexpr Microseconds kMeasureLimit = 10 * kUsecPerSec;
constexpr Microseconds kReleaseLimit = 20 * kUsecPerSec;
constexpr Microseconds kStoreLimit = 5 * kUsecPerSec;

Error no_such_volume(const std::string& text) {
    return {error::kNoSuchVolume, ENXIO, fmt::format("\"{}\" is on no guarded volume", text)};
}

Error does_not_answer(const Volume& volume) {
    return {
        error::kTimeout, ETIMEDOUT,
        fmt::format("{} does not answer in time", volume.found().mount_point)
    };
}

} // namespace

// ---- which volume ---------------------------------------------------------------------------

void Manager::with_volume(
    BusMessage message, const std::string& text, std::function<void(Volume&)> then
) {
    if (!searched_) {
        waiting_.push_back([this, message, text, then = std::move(then)] {
            with_volume(message, text, then);
        });
        return;
    }
    if (const auto found = volumes_.find(text); found != volumes_.end())
        return then(*found->second);
    // A mount point says more than a configured path, which may have been mounted over.
    for (const auto& [id, volume] : volumes_)
        if (volume->found().mount_point == text || volume->found().uuid == text)
            return then(*volume);
    for (const auto& [id, volume] : volumes_)
        if (std::ranges::find(volume->found().paths, text) != volume->found().paths.end())
            return then(*volume);
    if (!text.starts_with('/')) return message.reply_error(no_such_volume(text));
    find_by_path(std::move(message), text, std::move(then));
}

void Manager::find_by_path(
    BusMessage message, const std::string& text, std::function<void(Volume&)> then
) {
    const auto key = next_key_++;
    auto deadline = context_.loop.add_timer(
        kMeasureLimit,
        [this, key, message, text] {
            questions_.erase(key);
            message.reply_error(
                Error(error::kTimeout, ETIMEDOUT, fmt::format("{} does not answer in time", text))
            );
        },
        "path-limit", priority::kTimer
    );
    if (!deadline) return message.reply_error(deadline.error());
    questions_[key].deadline = std::move(*deadline);
    path_finder_->run<Result<reserve::Volume>>(
        [text] { return reserve::find_volume(text); },
        [this, key, message = std::move(message), text,
         then = std::move(then)](const Result<reserve::Volume>& found) {
            if (questions_.erase(key) == 0) return; // answered: too late
            // By the superblock: a cloned disk has the other one's UUID.
            const auto known = std::ranges::find_if(volumes_, [&](const auto& entry) {
                return found && entry.second->found().device == found->device;
            });
            if (known == volumes_.end()) return message.reply_error(no_such_volume(text));
            then(*known->second);
        }
    );
}

// `allowed` runs only for a caller that may; any other one is answered here.
void Manager::authorize(
    const BusMessage& message, const char* action, Volume& volume,
    std::function<void(Volume&)> allowed
) {
    const Polkit::Details details{
        {"volume", volume.id()}, {"mount-point", volume.found().mount_point}
    };
    polkit_.authorize(
        message, action, details,
        [this, message, action, id = volume.id(),
         allowed = std::move(allowed)](const Result<>& decision) {
            const auto found = volumes_.find(id);
            if (decision && found != volumes_.end()) return allowed(*found->second);
            if (decision) return message.reply_error(no_such_volume(id));
            log_event(
                LogLevel::Notice, message_id::kAccessDenied,
                {{"THAW_VOLUME", id}, {"THAW_ACTION", action}}, "refused {}: {}", message.sender(),
                decision.error().message()
            );
            message.reply_error(decision.error());
        }
    );
}

void Manager::with_space(
    const BusMessage& message, Volume& volume,
    std::function<void(Volume&, const reserve::Space&)> then
) {
    const auto key = next_key_++;
    auto deadline = context_.loop.add_timer(
        kMeasureLimit,
        [this, key, message, failure = does_not_answer(volume)] {
            questions_.erase(key);
            message.reply_error(failure);
        },
        "measure-limit", priority::kTimer
    );
    if (!deadline) return message.reply_error(deadline.error());
    questions_[key].deadline = std::move(*deadline);
    volume.measure_space([this, key, message, &volume,
                          then = std::move(then)](const Result<reserve::Space>& space) {
        if (questions_.erase(key) == 0) return; // answered: too late
        if (!space) return message.reply_error(space.error());
        then(volume, *space);
    });
}

// ---- leases ---------------------------------------------------------------------------------

void Manager::reserve_space(const BusMessage& message, Volume& volume, LeaseRecord wanted) {
    with_space(
        message, volume,
        [this, message,
         wanted = std::move(wanted)](Volume& measured, const reserve::Space& space) mutable {
            const auto free = space.available;
            if (wanted.bytes > available(free, measured.promised()))
                return refuse_lease(message, measured, wanted, free);
            wanted.since = now_realtime();
            auto theirs = leases_.add(wanted);
            if (!theirs) return message.reply_error(theirs.error());
            // The answer waits until PID 1 has our end: from then on the lease survives us.
            const auto key = next_key_++;
            grants_[key] = Grant{message, wanted.id, wanted.volume, std::move(*theirs), nullptr};
            auto barrier =
                NotifyBarrier::send(context_.loop, kStoreLimit, [this, key](Result<> stored) {
                    finish_lease(key, std::move(stored));
                });
            if (barrier)
                grants_[key].barrier = std::move(*barrier);
            else
                finish_lease(key, std::unexpected(std::move(barrier).error()));
        }
    );
}

void Manager::refuse_lease(
    const BusMessage& message, Volume& volume, const LeaseRecord& wanted, std::uint64_t free
) {
    auto fields = volume.log_fields();
    fields.push_back({"THAW_WHO", wanted.who});
    fields.push_back({"THAW_BYTES", std::to_string(wanted.bytes)});
    fields.push_back({"THAW_PROMISED_BYTES", std::to_string(volume.promised())});
    const Error refusal(
        error::kNoSpace, ENOSPC,
        fmt::format(
            "{} needs {} on {}: {} are free, {} of them promised to others", wanted.who,
            format_size(wanted.bytes), volume.found().mount_point, format_size(free),
            format_size(volume.promised())
        )
    );
    log_event(
        LogLevel::Notice, message_id::kLeaseRefused, fields, "refused: {}", refusal.message()
    );
    message.reply_error(refusal);
}

void Manager::finish_lease(std::uint64_t key, Result<> stored) {
    auto extracted = grants_.extract(key);
    if (!extracted) return;
    auto& grant = extracted.mapped();
    if (!stored) {
        leases_.drop(grant.id);
        return grant.call.reply_error(std::move(stored).error().with_context("store the lease"));
    }
    // The message takes a copy of the descriptor; a caller that is gone closes it, and the lease.
    if (auto sent = grant.call.reply("h", grant.theirs.get()); !sent)
        log_warning("{}", sent.error().message());
    log_debug("lease {} on {} granted", grant.id, grant.volume);
    leases_changed(grant.volume);
}

void Manager::lease_closed(const LeaseRecord& record) {
    log_debug("lease {} of {} on {} given back", record.id, record.who, record.volume);
    leases_changed(record.volume);
}

void Manager::leases_changed(const std::string& volume) {
    changed({"NLeases"});
    emit("LeasesChanged", "st", volume.c_str(), leases_.promised(volume));
    update();
}

// ---- release --------------------------------------------------------------------------------

Result<> Manager::method_release(Volume& volume, BusMessage message) {
    std::uint64_t bytes = 0;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("tt", &bytes, &flags));
    THAW_CHECK(check_flags(flags));
    release(std::move(message), volume, bytes);
    return {};
}

void Manager::release(BusMessage message, Volume& volume, std::uint64_t bytes) {
    authorize(message, diskguard1::kActionRelease, volume, [this, message, bytes](Volume& target) {
        const auto uid = message.sender_uid();
        const auto who = uid ? fmt::format("uid {}", *uid) : "an unknown caller";
        const auto key = next_key_++;
        auto deadline = context_.loop.add_timer(
            kReleaseLimit,
            [this, key, message, failure = does_not_answer(target)] {
                questions_.erase(key);
                message.reply_error(failure);
            },
            "release-limit", priority::kTimer
        );
        if (!deadline) return message.reply_error(deadline.error());
        questions_[key].deadline = std::move(*deadline);
        target.release(
            bytes == 0 ? std::nullopt : std::optional(bytes), {who, "on request"},
            [this, key, message](Result<reserve::ReleaseReport> report) mutable {
                if (questions_.erase(key) == 0) return; // answered: too late
                if (report)
                    (void
                    )message.reply("t", report->gained); // a caller that is gone learns nothing
                else
                    message.reply_error(
                        std::move(report).error().with_bus_name(error::kReleaseFailed)
                    );
            }
        );
    });
}

} // namespace thaw::diskguard
