// SPDX-License-Identifier: MIT
// What callers ask for: who may, what is possible, and the answer.
#include "api/restore1.hpp"
#include "bus/errors.hpp"
#include "bus/flags.hpp"
#include "core/names.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "no_space.hpp"
#include "reserve/hint.hpp"
#include "stop_job.hpp"
#include "vm_fields.hpp"

#include <algorithm>

namespace thaw::restore {

namespace error = restore1::error;

namespace {

Error no_such_instance(const std::string& name) {
    return {error::kNoSuchInstance, ENXIO, fmt::format("no VM \"{}\" is on the books", name)};
}

// What could not be put on record.
Error not_saved(Error cause) {
    if (!is_no_space(cause)) return cause;
    return reserve::with_release_hint(std::move(cause), paths::kRestoreRuntime)
        .with_bus_name(error::kNoSpace);
}

} // namespace

// `allowed` runs only for a caller that may; any other one is answered here.
void Manager::authorize(
    const BusMessage& message, const char* action, const std::string& instance,
    std::function<void()> allowed
) {
    std::optional<uid_t> owner;
    if (const Instance* target = find_instance(instance)) owner = target->record().owner;
    authorize_for(message, action, instance, owner, std::move(allowed));
}

void Manager::authorize_for(
    const BusMessage& message, const char* action, const std::string& instance,
    std::optional<uid_t> owned_by, std::function<void()> allowed
) {
    const auto uid = message.sender_uid();
    const char* owner = "none";
    if (owned_by) owner = uid && *owned_by == *uid ? "self" : "other";
    const Polkit::Details details{{"instance", instance}, {"owner", owner}};
    const auto who = uid ? std::to_string(*uid) : "?";
    polkit_.authorize(
        message, action, details,
        [message, instance, who, action, allowed = std::move(allowed)](Result<> decision) {
            if (decision) return allowed();
            auto fields = vm_fields(instance);
            fields.push_back({"THAW_ACTION", action});
            fields.push_back({"THAW_CALLER_UID", who});
            log_event(
                LogLevel::Notice, message_id::kAccessDenied, fields, "refused uid {}: {}", who,
                decision.error().message()
            );
            message.reply_error(decision.error());
        }
    );
}

void Manager::answer_with_job(BusMessage& message, const Job& job) {
    // A caller that is gone learns nothing; the job goes on.
    (void)message.reply("uo", job.id(), job.path().c_str());
}

// ---- restore --------------------------------------------------------------------------------

Result<> Manager::may_restore(const std::string& name, const std::string& image) const {
    const auto found = instances_.find(name);
    if (found == instances_.end()) {
        const auto at_work =
            static_cast<std::size_t>(std::count_if(jobs_.begin(), jobs_.end(), [](const auto& row) {
                return row.second->kind() == JobKind::Restore && !is_final(row.second->state());
            }));
        if (at_work >= config_.max_jobs)
            return fail_named(
                error::kTooManyJobs, EAGAIN, "{} restores are at work or waiting", at_work
            );
        return {};
    }
    const auto& instance = *found->second;
    if (instance.has_job() || instance.is_cleaning() || !instance.is_live())
        return fail_named(
            error::kInstanceBusy, EBUSY, "{} is {}", name,
            kInstanceStateNames.name(instance.state())
        );
    if (instance.is_recording())
        return fail_named(error::kInstanceBusy, EBUSY, "{} is a recording VM", name);
    if (instance.record().image != image)
        return fail_named(
            error::kInstanceExists, EEXIST, "{} runs from image \"{}\"", name,
            instance.record().image
        );
    return {};
}

void Manager::accept_restore(
    BusMessage& message, const std::string& name, const std::string& image,
    const RestoreOptions& options, uid_t uid
) {
    if (auto possible = may_restore(name, image); !possible)
        return message.reply_error(possible.error());
    const auto job = new_job(JobKind::Restore, uid);
    // A repeated request for a live VM returns that VM; it never rolls it back.
    if (find_instance(name) != nullptr)
        return answer_with_job(
            message, add_job(std::make_unique<FinishedJob>(context_, job, name, image))
        );
    const Record record{
        .name = name,
        .image = image,
        .owner = uid,
        .restored_by = job.id,
        .started = job.started,
        .job = job,
    };
    if (auto saved = records_.save(record); !saved) {
        (void)records_.remove(name);
        return message.reply_error(not_saved(std::move(saved).error()));
    }
    auto& instance = add_instance(record);
    answer_with_job(
        message, add_job(std::make_unique<RestoreJob>(context_, job, instance, options))
    );
}

// ---- stop, pause, cancel --------------------------------------------------------------------

Result<> Manager::request_stop(BusMessage message, const std::string& name, std::uint64_t flags) {
    THAW_CHECK(check_flags(flags));
    if (find_instance(name) == nullptr) return std::unexpected(no_such_instance(name));
    THAW_TRY(const auto uid, message.sender_uid());
    authorize(message, restore1::kActionStop, name, [this, message, name, uid]() mutable {
        accept_stop(message, name, uid);
    });
    return {};
}

void Manager::accept_stop(BusMessage& message, const std::string& name, uid_t uid) {
    auto* instance = find_instance(name);
    if (instance == nullptr) return message.reply_error(no_such_instance(name));
    if (instance->has_job() || instance->is_cleaning())
        return message.reply_error(
            Error(error::kInstanceBusy, EBUSY, fmt::format("another job works on {}", name))
        );
    answer_with_job(message, stop_instance(*instance, uid));
}

void Manager::request_vm_state(BusMessage message, const std::string& name, VmState state) {
    authorize(message, restore1::kActionStop, name, [this, message, name, state]() mutable {
        auto* instance = find_instance(name);
        if (instance == nullptr) return message.reply_error(no_such_instance(name));
        instance->change_vm_state(state, [message](const Result<>& done) mutable {
            if (done)
                (void)message.reply_empty(); // a caller that is gone learns nothing
            else
                message.reply_error(done.error());
        });
    });
}

void Manager::request_cancel(BusMessage message, std::uint32_t id) {
    const auto no_such_job = [id] {
        return Error(error::kNoSuchJob, ENXIO, fmt::format("no job {}", id));
    };
    const Job* job = find_job(id);
    if (job == nullptr) return message.reply_error(no_such_job());
    // Whoever asked for the job; a recording has no VM for most of its time.
    authorize_for(
        message, restore1::kActionCancel, job->instance(), job->record().uid,
        [this, message, id, no_such_job]() mutable {
            Job* target = find_job(id);
            if (target == nullptr) return message.reply_error(no_such_job());
            if (auto canceled = target->cancel(); !canceled)
                message.reply_error(canceled.error());
            else
                (void)message.reply_empty(); // as above
        }
    );
}

// ---- circuit breakers -----------------------------------------------------------------------

Result<> Manager::set_policy(std::string_view key, BusMessage& value) {
    auto wanted = policy_;
    std::string word;
    if (key == "MemoryBackend") {
        const char* text = nullptr;
        THAW_CHECK(value.read("v", "s", &text));
        THAW_TRY(wanted.memory_backend, parse_backend(text));
        word = text;
    } else if (key == "Prefetch" || key == "Recording") {
        int on = 0;
        THAW_CHECK(value.read("v", "b", &on));
        (key == "Prefetch" ? wanted.prefetch : wanted.recording) = on != 0;
        word = on != 0 ? "yes" : "no";
    } else {
        return fail(EINVAL, "unknown policy \"{}\"", key);
    }
    if (wanted == policy_) return {};
    // First on disk: a breaker must not fall back to where it was when we are restarted.
    if (auto saved = records_.save_policy(wanted); !saved)
        return std::unexpected(not_saved(std::move(saved).error()));
    policy_ = wanted;
    changed({std::string(key)});
    log_event(
        LogLevel::Notice, message_id::kPolicyChanged,
        {{"THAW_POLICY", std::string(key)}, {"THAW_VALUE", word}}, "policy {} is now {}", key, word
    );
    return {};
}

} // namespace thaw::restore
