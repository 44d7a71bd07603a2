// SPDX-License-Identifier: MIT

// reserve status, reserve release. Releasing must work when nothing else does: root goes to the
// file system directly when there is no bus or no guardian, makes no file and writes no log.

#include "api/diskguard1.hpp"
#include "exit_codes.hpp"
#include "guard_view.hpp"
#include "reserve/measure.hpp"
#include "reserve/release.hpp"
#include "verbs.hpp"

#include <unistd.h>

#include <algorithm>
#include <optional>

namespace thaw::ctl {

namespace {

struct Outcome {
    std::string mount_point;
    std::uint64_t held = 0; // before
    std::uint64_t gained = 0;
    std::uint64_t remaining = 0;
    std::uint64_t free = 0;
    std::optional<reserve::Probe> probe;
    std::string by; // "guardian", "directly"
};

// A reserve that could be meant, whoever knows it.
struct Candidate {
    std::string id;
    std::string mount_point;
    std::uint64_t held = 0;
    std::uint64_t releasable = 0;
};

// What was done, and whether something could not be.
struct Released {
    std::vector<Outcome> outcomes;
    bool failed = false;
};

constexpr const char* kNext =
    "Next: delete what is not needed ('thawctl image list', 'thawctl image rm NAME', old logs, "
    "caches).\nThe reserve comes back by itself once there is room; 'thawctl df' shows it.";

// Without a name the only one there is; with --all each of them.
Result<std::vector<Candidate>>
choose(std::vector<Candidate> candidates, const ReserveArguments& arguments) {
    std::erase_if(candidates, [](const Candidate& one) { return one.held == 0; });
    if (arguments.all || candidates.size() <= 1) return candidates;
    std::string list;
    for (const auto& one : candidates)
        list += fmt::format(
            "\n  thawctl reserve release {}   ({})", one.mount_point, format_size(one.releasable)
        );
    return fail(EINVAL, "there are several reserves, say which one, or --all:{}", list);
}

// Zeros where nothing can be measured: a release has to go on.
reserve::Measurement measured_at(const std::string& mount_point) {
    const auto volume = reserve::find_volume(mount_point);
    if (!volume) return {};
    return reserve::measure(*volume, reserve::Plan{}).value_or(reserve::Measurement{});
}

void print_outcome(const Outcome& outcome) {
    if (outcome.held == 0) {
        fmt::print("{}: nothing was held in reserve.\n", outcome.mount_point);
    } else {
        fmt::print(
            "{}: {} gained (measured), {} free now, {} still held in reserve.\n",
            outcome.mount_point, format_size(outcome.gained), format_size(outcome.free),
            format_size(outcome.remaining)
        );
    }
    if (!outcome.probe) return;
    if (!outcome.probe->writes())
        fmt::print(
            "writes: no ({}). Delete files, or release on the volume that is full.\n",
            errno_text(outcome.probe->write_error)
        );
    if (!outcome.probe->creates())
        fmt::print(
            "creates: no ({}). Files that exist can be written; new ones cannot be made before "
            "some are deleted:\nremove an image with 'thawctl image rm NAME', or other files with "
            "rm(1).\n",
            errno_text(outcome.probe->create_error)
        );
}

int report(const Released& released, const OutputOptions& options) {
    const auto& outcomes = released.outcomes;
    const int code = released.failed ? kExitFailure : kExitOk;
    if (options.json != JsonMode::Off) {
        auto rows = nlohmann::json::array();
        for (const auto& outcome : outcomes) {
            nlohmann::json row{
                {"mount_point", outcome.mount_point},
                {"gained", outcome.gained},
                {"remaining", outcome.remaining},
                {"free", outcome.free},
                {"by", outcome.by},
            };
            if (outcome.probe) {
                row["writes"] = outcome.probe->writes();
                row["creates"] = outcome.probe->creates();
            }
            rows.push_back(std::move(row));
        }
        print_json(rows, options.json);
        return code;
    }
    if (outcomes.empty() && !released.failed) fmt::print("Nothing is held in reserve.\n");
    for (const auto& outcome : outcomes)
        print_outcome(outcome);
    const bool gained =
        std::ranges::any_of(outcomes, [](const Outcome& one) { return one.gained > 0; });
    if (gained && options.legend) fmt::print("{}\n", kNext);
    return code;
}

// ---- by the guardian ------------------------------------------------------------------------

Result<Outcome> release_one(Client& client, const std::string& volume, std::uint64_t bytes) {
    THAW_TRY(
        auto found, client.simple(
                        diskguard1::kBusName, diskguard1::kPath, diskguard1::kManagerInterface,
                        "GetVolume", "s", volume.c_str()
                    )
    );
    const char* object = nullptr;
    THAW_CHECK(found.read("o", &object));
    THAW_TRY(
        const auto before,
        client.properties(diskguard1::kBusName, object, diskguard1::kVolumeInterface)
    );
    THAW_TRY(
        auto reply, client.simple(
                        diskguard1::kBusName, object, diskguard1::kVolumeInterface, "Release", "tt",
                        bytes, std::uint64_t{0}
                    )
    );
    Outcome outcome{.held = before.number("HeldBytes"), .by = "guardian"};
    THAW_CHECK(reply.read("t", &outcome.gained));
    THAW_TRY(
        const auto after,
        client.properties(diskguard1::kBusName, object, diskguard1::kVolumeInterface)
    );
    outcome.mount_point = after.text("MountPoint");
    outcome.remaining = after.number("HeldBytes");
    outcome.free = after.number("FreeBytes");
    // The probe file is root's.
    if (::geteuid() != 0) return outcome;
    if (const auto where = reserve::find_volume(outcome.mount_point))
        if (const auto probe = reserve::probe(*where)) outcome.probe = *probe;
    return outcome;
}

Result<Outcome> release_one(const reserve::Volume& volume, std::uint64_t bytes) {
    const auto wanted = bytes == 0 ? std::nullopt : std::optional(bytes);
    THAW_TRY(const auto released, reserve::release(volume, {.bytes = wanted}));
    if (released.lock_ignored)
        print_warning("somebody else is at the reserve and did not answer: released all the same");
    for (const auto& problem : released.problems)
        print_warning(problem);
    return Outcome{
        .mount_point = volume.mount_point,
        .held = released.let_go + released.remaining,
        .gained = released.gained,
        .remaining = released.remaining,
        .free = measured_at(volume.mount_point).space.available,
        .probe = released.probe,
        .by = "directly",
    };
}

// As root what the guardian cannot do is done without it.
Result<Outcome> release_somehow(Client& client, const std::string& volume, std::uint64_t bytes) {
    auto outcome = release_one(client, volume, bytes);
    if (outcome || ::geteuid() != 0) return outcome;
    THAW_TRY(const auto reserves, reserve::find_reserves());
    const auto found = reserve::pick_volume(reserves, volume);
    if (!found) return outcome;
    print_warning(outcome.error().message() + ": releasing directly");
    return release_one(*found, bytes);
}

void take(Released& released, const std::string& volume, Result<Outcome> outcome) {
    // The others may still give something.
    if (outcome) return released.outcomes.push_back(std::move(*outcome));
    print_error(fmt::format("{}: {}", volume, outcome.error().message()));
    released.failed = true;
}

Result<Released> release_by_guardian(Client& client, const ReserveArguments& arguments) {
    std::vector<std::string> volumes{arguments.volume};
    if (arguments.volume.empty()) {
        THAW_TRY(const auto view, read_guard(client));
        std::vector<Candidate> candidates;
        candidates.reserve(view.volumes.size());
        for (const auto& volume : view.volumes)
            candidates.push_back(
                {volume.text("Id"), volume.text("MountPoint"), volume.number("HeldBytes"),
                 volume.number("ReleasableBytes")}
            );
        THAW_TRY(const auto chosen, choose(std::move(candidates), arguments));
        volumes.clear();
        for (const auto& one : chosen)
            volumes.push_back(one.id);
    }
    Released released;
    if (volumes.size() == 1) {
        THAW_TRY(auto outcome, release_somehow(client, volumes.front(), arguments.bytes));
        released.outcomes.push_back(std::move(outcome));
        return released;
    }
    for (const auto& volume : volumes)
        take(released, volume, release_somehow(client, volume, arguments.bytes));
    return released;
}

// ---- directly -------------------------------------------------------------------------------

Result<Released> release_directly(const ReserveArguments& arguments) {
    std::vector<reserve::Volume> volumes;
    if (arguments.volume.starts_with('/')) {
        THAW_TRY(auto volume, reserve::find_volume(arguments.volume));
        volumes.push_back(std::move(volume));
    } else {
        THAW_TRY(volumes, reserve::find_reserves());
        if (!arguments.volume.empty()) {
            THAW_TRY(auto volume, reserve::pick_volume(volumes, arguments.volume));
            volumes = {std::move(volume)};
        } else {
            std::vector<Candidate> candidates;
            for (const auto& one : volumes) {
                const auto measured = measured_at(one.mount_point);
                candidates.push_back(
                    {one.id, one.mount_point, measured.allocated + measured.leftovers,
                     measured.releasable}
                );
            }
            THAW_TRY(const auto chosen, choose(std::move(candidates), arguments));
            std::erase_if(volumes, [&](const reserve::Volume& volume) {
                return std::ranges::find(chosen, volume.id, &Candidate::id) == chosen.end();
            });
        }
    }
    Released released;
    if (volumes.size() == 1) {
        THAW_TRY(auto outcome, release_one(volumes.front(), arguments.bytes));
        released.outcomes.push_back(std::move(outcome));
        return released;
    }
    for (const auto& volume : volumes)
        take(released, volume.mount_point, release_one(volume, arguments.bytes));
    return released;
}

// ---- status ---------------------------------------------------------------------------------

Result<std::vector<Properties>> status_directly() {
    THAW_TRY(const auto volumes, reserve::find_reserves());
    std::vector<Properties> rows;
    for (const auto& volume : volumes) {
        Properties row;
        row.values["Id"] = volume.id;
        row.values["MountPoint"] = volume.mount_point;
        // What was planned, only the guardian knows; what is there counts.
        row.values["ReleasableBytes"] = reserve::releasable_at(volume.mount_point).value_or(0);
        row.values["FreeBytes"] = measured_at(volume.mount_point).space.available;
        rows.push_back(std::move(row));
    }
    return rows;
}

void add_row(Table& table, const Properties& volume) {
    const auto size = [&](const char* name) {
        return volume.values.contains(name) ? format_size(volume.number(name)) : std::string();
    };
    const auto state = volume.text("State");
    auto why = volume.text("StateReason");
    if (why.empty() && volume.text("Rearm") == "deferred")
        why = fmt::format(
            "comes back when {} are free", format_size(volume.number("RearmThresholdBytes"))
        );
    if (why.empty() && volume.text("Rearm") == "waiting") why = "comes back in a moment";
    table.add(
        {volume.text("MountPoint"),
         {state, color_of_reserve(state)},
         size("PlannedBytes"),
         size("HeldBytes"),
         size("ReleasableBytes"),
         size("FreeBytes"),
         why}
    );
}

} // namespace

Result<int> verb_reserve_status(const OutputOptions& options) {
    auto client = Client::open(options);
    auto view = client ? read_guard(*client) : Result<GuardView>(std::unexpected(client.error()));
    std::vector<Properties> volumes;
    if (view) {
        volumes = std::move(view->volumes);
    } else {
        if (::geteuid() != 0) return std::unexpected(std::move(view).error());
        print_warning(view.error().message() + ": what is on the disks is shown");
        THAW_TRY(volumes, status_directly());
    }
    Table table(
        {{"MOUNT POINT"},
         {"STATE"},
         {"PLANNED", Align::Right},
         {"HELD", Align::Right},
         {"RELEASABLE", Align::Right},
         {"FREE", Align::Right},
         {"WHY"}}
    );
    auto rows = nlohmann::json::array();
    for (const auto& volume : volumes) {
        add_row(table, volume);
        rows.push_back(volume.values);
    }
    print_table(table, rows, "reserves", options);
    return kExitOk;
}

Result<int> verb_reserve_release(const ReserveArguments& arguments, const OutputOptions& options) {
    const bool root = ::geteuid() == 0;
    auto client = Client::open(options);
    if (!client && !root) return std::unexpected(std::move(client).error());
    // A guardian that is not there is not started for this: it may not come up on a full disk.
    if (client && (!root || has_guardian(*client))) {
        auto released = release_by_guardian(*client, arguments);
        // A reserve that is not configured any more is known to the disks only.
        const bool nothing = released && released->outcomes.empty() && !released->failed;
        if (released && !(nothing && root)) return report(*released, options);
        if (!released) {
            const bool usage = released.error().code() == EINVAL;
            if (!root || usage) return std::unexpected(std::move(released).error());
            print_warning(released.error().message() + ": releasing directly");
        }
    }
    THAW_TRY(const auto released, release_directly(arguments));
    return report(released, options);
}

} // namespace thaw::ctl
