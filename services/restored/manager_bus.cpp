// SPDX-License-Identifier: MIT
#include "api/restore1.hpp"
#include "build_config.hpp"
#include "bus/flags.hpp"
#include "bus/vtable.hpp"
#include "core/names.hpp"
#include "manager.hpp"

namespace thaw::restore {

namespace error = restore1::error;

Result<> Manager::method_restore(BusMessage message) {
    const char *name = nullptr, *image = nullptr;
    THAW_CHECK(message.read("ss", &name, &image));
    THAW_TRY(const auto options, read_options(message, config_));
    THAW_CHECK(read_flags(message));
    if (!is_valid_vm_name(name))
        return fail_named(error::kInvalidName, EINVAL, "\"{}\" is no name for a VM", name);
    if (!is_valid_image_name(image))
        return fail_named(error::kInvalidName, EINVAL, "\"{}\" is no name of an image", image);
    THAW_TRY(const auto uid, message.sender_uid());
    authorize(
        message, restore1::kActionRestore, name,
        [this, message, vm = std::string(name), image = std::string(image), options,
         uid]() mutable { accept_restore(message, vm, image, options, uid); }
    );
    return {};
}

Result<> Manager::method_stop(BusMessage message) {
    const char* name = nullptr;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("st", &name, &flags));
    return request_stop(std::move(message), name, flags);
}

Result<> Manager::method_cancel(BusMessage message) {
    std::uint32_t id = 0;
    THAW_CHECK(message.read("u", &id));
    request_cancel(std::move(message), id);
    return {};
}

Result<> Manager::method_get_job(BusMessage message) {
    std::uint32_t id = 0;
    THAW_CHECK(message.read("u", &id));
    const Job* job = find_job(id);
    if (job == nullptr) return fail_named(error::kNoSuchJob, ENXIO, "no job {}", id);
    return message.reply("o", job->path().c_str());
}

Result<> Manager::method_get_instance(BusMessage message) {
    const char* name = nullptr;
    THAW_CHECK(message.read("s", &name));
    const Instance* instance = find_instance(name);
    if (instance == nullptr)
        return fail_named(error::kNoSuchInstance, ENXIO, "no VM \"{}\" is on the books", name);
    return message.reply("o", instance->path().c_str());
}

Result<> Manager::method_list_jobs(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(usssdo)"));
    for (const auto& [id, job] : jobs_) {
        if (is_final(job->state())) continue;
        const std::string kind(kJobKindNames.name(job->kind()));
        const std::string state(kJobStateNames.name(job->state()));
        THAW_CHECK(reply.append(
            "(usssdo)", id, job->instance().c_str(), kind.c_str(), state.c_str(), job->progress(),
            job->path().c_str()
        ));
    }
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> Manager::method_list_instances(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(sssso)"));
    for (const auto& [name, instance] : instances_) {
        const std::string state(kInstanceStateNames.name(instance->state()));
        THAW_CHECK(reply.append(
            "(sssso)", name.c_str(), instance->unit().c_str(), state.c_str(),
            instance->record().image.c_str(), instance->path().c_str()
        ));
    }
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> Manager::method_set_policy(BusMessage message) {
    const char* key = nullptr;
    THAW_CHECK(message.read("s", &key));
    authorize(
        message, restore1::kActionSetPolicy, "",
        [this, message, word = std::string(key)]() mutable {
            if (auto done = set_policy(word, message); !done)
                message.reply_error(std::move(done).error().with_bus_name(kErrorInvalidArgs));
            else
                (void)message.reply_empty(); // a caller that is gone learns nothing
        }
    );
    return {};
}

Result<> Manager::append_version(BusMessage& reply) const {
    return reply.append("s", THAW_VERSION);
}

Result<> Manager::append_jobs(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(count_unfinished()));
}

Result<> Manager::append_job_results(BusMessage& reply) const {
    THAW_CHECK(reply.open_container('a', "(sst)"));
    for (const auto& [what, count] : results_) {
        const std::string kind(kJobKindNames.name(what.first));
        THAW_CHECK(reply.append("(sst)", kind.c_str(), what.second.c_str(), count));
    }
    return reply.close_container();
}

Result<> Manager::append_throttle(BusMessage& reply) const {
    return reply.append("s", std::string(throttle_->state()).c_str());
}

Result<> Manager::append_throttled(BusMessage& reply) const {
    return reply.append("t", throttle_->counters().throttled);
}

Result<> Manager::append_throttle_looks(BusMessage& reply) const {
    return reply.append("t", throttle_->counters().looks);
}

Result<> Manager::append_instances(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(instances_.size()));
}

Result<> Manager::append_max_jobs(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(config_.max_jobs));
}

Result<> Manager::append_backend(BusMessage& reply) const {
    const std::string word(kBackendNames.name(policy_.memory_backend));
    return reply.append("s", word.c_str());
}

Result<> Manager::append_prefetch(BusMessage& reply) const {
    return reply.append("b", policy_.prefetch ? 1 : 0);
}

Result<> Manager::append_recording(BusMessage& reply) const {
    return reply.append("b", policy_.recording ? 1 : 0);
}

void Manager::changed(std::vector<std::string> properties) {
    // Nobody may be listening yet, or the bus may be going; both are fine.
    (void)bus_.emit_properties_changed(
        restore1::kPath, restore1::kManagerInterface, std::move(properties)
    );
}

Result<> Manager::export_objects() {
    const auto keep = [this](Result<BusSlot> slot) -> Result<> {
        if (!slot) return std::unexpected(std::move(slot).error());
        slots_.push_back(std::move(*slot));
        return {};
    };
    THAW_CHECK(keep(bus_.add_object_manager(restore1::kPath)));
    THAW_CHECK(keep(bus_.add_object(restore1::kPath, restore1::kManagerInterface, vtable(), this)));
    const auto find_job_object = [this](const std::string& path) -> void* {
        Job* job = find_job(job_id_of_path(path));
        return job != nullptr && job->path() == path ? job : nullptr;
    };
    const auto find_instance_object = [this](const std::string& path) -> void* {
        const auto name = decode_object_path(restore1::kInstancePrefix, path);
        return name ? find_instance(*name) : nullptr;
    };
    THAW_CHECK(keep(bus_.add_objects(
        restore1::kJobPrefix, restore1::kJobInterface, Job::vtable(), find_job_object
    )));
    THAW_CHECK(keep(bus_.add_objects(
        restore1::kInstancePrefix, restore1::kInstanceInterface, Instance::vtable(),
        find_instance_object
    )));
    THAW_CHECK(keep(bus_.add_enumerator(restore1::kJobPrefix, [this] {
        std::vector<std::string> paths;
        paths.reserve(jobs_.size());
        for (const auto& [id, job] : jobs_)
            paths.push_back(job->path());
        return paths;
    })));
    return keep(bus_.add_enumerator(restore1::kInstancePrefix, [this] {
        std::vector<std::string> paths;
        paths.reserve(instances_.size());
        for (const auto& [name, instance] : instances_)
            paths.push_back(instance->path());
        return paths;
    }));
}

const sd_bus_vtable* Manager::vtable() {
    using M = Manager;
    constexpr auto kFree = SD_BUS_VTABLE_UNPRIVILEGED;
    constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
    constexpr auto kEmits = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
    static const sd_bus_vtable table[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS(
            "RestoreInstance", SD_BUS_ARGS("s", name, "s", image, "a{sv}", options, "t", flags),
            SD_BUS_RESULT("u", id, "o", job), (bus_method<M, &M::method_restore>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "StopInstance", SD_BUS_ARGS("s", name, "t", flags), SD_BUS_RESULT("u", id, "o", job),
            (bus_method<M, &M::method_stop>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "RecordImage", SD_BUS_ARGS("s", image, "a{sv}", options, "t", flags),
            SD_BUS_RESULT("u", id, "o", job), (bus_method<M, &M::method_record>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "SnapshotInstance", SD_BUS_ARGS("s", name, "s", image, "a{sv}", options, "t", flags),
            SD_BUS_RESULT("u", id, "o", job), (bus_method<M, &M::method_snapshot>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "CancelJob", SD_BUS_ARGS("u", id), SD_BUS_NO_RESULT, (bus_method<M, &M::method_cancel>),
            kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "GetJob", SD_BUS_ARGS("u", id), SD_BUS_RESULT("o", job),
            (bus_method<M, &M::method_get_job>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "GetInstance", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", instance),
            (bus_method<M, &M::method_get_instance>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(usssdo)", jobs),
            (bus_method<M, &M::method_list_jobs>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "ListInstances", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sssso)", instances),
            (bus_method<M, &M::method_list_instances>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "SetPolicy", SD_BUS_ARGS("s", key, "v", value), SD_BUS_NO_RESULT,
            (bus_method<M, &M::method_set_policy>), kFree
        ),
        SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("u", id, "o", job, "s", instance), 0),
        SD_BUS_SIGNAL_WITH_ARGS(
            "JobRemoved",
            SD_BUS_ARGS(
                "u", id, "o", job, "s", instance, "s", error_name, "s", error_message, "s", result
            ),
            0
        ),
        SD_BUS_SIGNAL_WITH_ARGS("InstanceNew", SD_BUS_ARGS("s", name, "o", instance), 0),
        SD_BUS_SIGNAL_WITH_ARGS(
            "InstanceRemoved", SD_BUS_ARGS("s", name, "o", instance, "s", result), 0
        ),
        SD_BUS_PROPERTY("Version", "s", (bus_property<M, &M::append_version>), 0, kConst),
        SD_BUS_PROPERTY("NJobs", "u", (bus_property<M, &M::append_jobs>), 0, kEmits),
        SD_BUS_PROPERTY("JobResults", "a(sst)", (bus_property<M, &M::append_job_results>), 0, 0),
        SD_BUS_PROPERTY("DirtyThrottle", "s", (bus_property<M, &M::append_throttle>), 0, 0),
        SD_BUS_PROPERTY("DirtyThrottled", "t", (bus_property<M, &M::append_throttled>), 0, 0),
        SD_BUS_PROPERTY(
            "DirtyThrottleLooks", "t", (bus_property<M, &M::append_throttle_looks>), 0, 0
        ),
        SD_BUS_PROPERTY("NInstances", "u", (bus_property<M, &M::append_instances>), 0, kEmits),
        SD_BUS_PROPERTY("MaxJobs", "u", (bus_property<M, &M::append_max_jobs>), 0, kConst),
        SD_BUS_PROPERTY("MemoryBackend", "s", (bus_property<M, &M::append_backend>), 0, kEmits),
        SD_BUS_PROPERTY("Prefetch", "b", (bus_property<M, &M::append_prefetch>), 0, kEmits),
        SD_BUS_PROPERTY("Recording", "b", (bus_property<M, &M::append_recording>), 0, kEmits),
        SD_BUS_VTABLE_END,
    };
    return table;
}

} // namespace thaw::restore
