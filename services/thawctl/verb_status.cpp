// SPDX-License-Identifier: MIT

#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "cache_view.hpp"
#include "client.hpp"
#include "exit_codes.hpp"
#include "fields.hpp"
#include "log/message_ids.hpp"
#include "protocol/rootfs_control.hpp"
#include "session_view.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

namespace {

std::string since(std::uint64_t start) {
    if (start == 0) return {};
    const auto now = now_realtime();
    const auto age = now > start ? (now - start) / kUsecPerSec * kUsecPerSec : 0;
    return fmt::format(" since {}; {} ago", format_timestamp(start), format_timespan(age));
}

// What the VM's root file system says of itself; no value where none is served.
std::optional<Result<Properties>> ask_rootfs(Client& client, const char* instance) {
    auto reply =
        client.simple(restore1::kBusName, instance, restore1::kInstanceInterface, "GetRootfs", "");
    if (reply) return read_properties(*reply);
    const auto& name = reply.error().bus_name();
    // An older manager does not know the question.
    if (name == protocol::rootfs_error::kNotRunning || name == SD_BUS_ERROR_UNKNOWN_METHOD)
        return std::nullopt;
    return std::unexpected(std::move(reply).error());
}

void add_rootfs(Fields& fields, const Result<Properties>& status) {
    if (!status) return fields.add("Root disk", status.error().message(), Color::Warning);
    fields.add(
        "Root disk",
        fmt::format(
            "{} changed, {} of it in memory", format_size(status->number("DirtyBytes")),
            format_size(status->number("MemoryUsed"))
        )
    );
    if (const auto failed = status->number("FailedWrites"); failed > 0)
        fields.add("Disk errors", fmt::format("{} writes failed", failed), Color::Bad);
}

Result<int> show_instance(Client& client, const std::string& name, const OutputOptions& options) {
    THAW_TRY(auto reply, client.manager("GetInstance", "s", name.c_str()));
    const char* path = nullptr;
    THAW_CHECK(reply.read("o", &path));
    THAW_TRY(
        const auto instance,
        client.properties(restore1::kBusName, path, restore1::kInstanceInterface)
    );
    const auto session_path = instance.text("Session");
    // Without the pager, or with the file backend, there is none.
    auto session = Result<Properties>(Properties{});
    if (session_path.size() > 1)
        session = client.properties(pager1::kBusName, session_path, pager1::kSessionInterface);
    const auto rootfs = ask_rootfs(client, path);
    if (options.json != JsonMode::Off) {
        nlohmann::json value = {{"instance", instance.values}};
        if (rootfs && *rootfs) value["rootfs"] = (*rootfs)->values;
        if (session && !session->values.empty()) value["session"] = session->values;
        print_json(value, options.json);
        return kExitOk;
    }
    const auto state = instance.text("State");
    const auto dot = wants_color(1) ? colored(color_of_state(state), "●") : "●";
    Fields fields;
    fields.add("State", state + since(instance.number("StartTimestamp")), color_of_state(state));
    fields.add("Image", instance.text("Image"));
    fields.add("Unit", instance.text("Unit"));
    fields.add("Backend", instance.text("MemoryBackend"));
    if (instance.number("JobId") != 0) fields.add("Job", std::to_string(instance.number("JobId")));
    if (!session)
        fields.add("Pager", "not available: " + session.error().message(), Color::Warning);
    if (session && !session->values.empty()) add_session(fields, *session);
    if (rootfs) add_rootfs(fields, *rootfs);
    print_text(
        fmt::format("{} {} - thaw microVM\n{}", dot, printable(name), fields.text()), options
    );
    return kExitOk;
}

// Only what is worth a line: the kernel holds writers of the daemon back, or has done so.
void add_throttle(Fields& fields, const std::string& label, const Properties& manager) {
    const auto seen = manager.number("DirtyThrottled");
    if (seen == 0) return;
    fields.add(
        label,
        fmt::format(
            "held back by the kernel in {} of {} looks (see \"journalctl "
            "MESSAGE_ID={}\")",
            seen, manager.number("DirtyThrottleLooks"), message_id::kWritesThrottled
        ),
        Color::Warning
    );
}

Result<int> show_host(Client& client, const OutputOptions& options) {
    THAW_TRY(
        const auto manager,
        client.properties(restore1::kBusName, restore1::kPath, restore1::kManagerInterface)
    );
    // All interfaces of the root object: the manager's, and the cache's of remote images.
    const auto pager = client.properties(pager1::kBusName, pager1::kPath, "");
    if (options.json != JsonMode::Off) {
        nlohmann::json value = {{"restore", manager.values}};
        value["pager"] = pager ? nlohmann::json(pager->values) : nlohmann::json();
        print_json(value, options.json);
        return kExitOk;
    }
    Fields fields;
    fields.add("Manager", "thaw-restored " + manager.text("Version"));
    fields.add(
        "VMs", fmt::format(
                   "{}, {} of at most {} jobs at work", manager.number("NInstances"),
                   manager.number("NJobs"), manager.number("MaxJobs")
               )
    );
    fields.add(
        "Policy",
        fmt::format(
            "memory backend {}, prefetch {}, recording {}", manager.text("MemoryBackend"),
            manager.flag("Prefetch") ? "on" : "off", manager.flag("Recording") ? "on" : "off"
        )
    );
    add_throttle(fields, "Writes", manager);
    if (pager) {
        fields.add(
            "Pager", fmt::format(
                         "thaw-pagerd {}, {} of at most {} sessions", pager->text("Version"),
                         pager->number("NSessions"), pager->number("MaxSessions")
                     )
        );
        add_throttle(fields, "Pager writes", *pager);
        if (const auto room = cache_room(*pager); !room.empty()) fields.add("Cache", room);
        if (const auto use = cache_use(*pager); !use.empty()) fields.add("Cache use", use);
        if (pager->flag("SafeMode"))
            fields.add(
                "Safe mode", "the pager restarts too often and accepts nothing new", Color::Bad
            );
    } else {
        fields.add("Pager", pager.error().message(), Color::Warning);
    }
    print_text(fields.text(), options);
    return kExitOk;
}

} // namespace

Result<int> verb_status(const std::string& name, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    if (name.empty()) return show_host(client, options);
    auto shown = show_instance(client, name, options);
    if (!shown && shown.error().bus_name() == restore1::error::kNoSuchInstance)
        print_hint(fmt::format("What became of it: \"journalctl THAW_INSTANCE={}\".", name));
    return shown;
}

} // namespace thaw::ctl
