// SPDX-License-Identifier: MIT
#pragma once

// What survives a restart of the manager: one file per VM, /run/thaw/restore/NAME.json, written
// before anything that it speaks of is done. Private; the format may change with each version.

#include "job_state.hpp"
#include "policy.hpp"
#include "restore_plan.hpp"

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thaw::restore {

struct JobRecord {
    std::uint32_t id = 0;
    JobKind kind = JobKind::Restore;
    JobState state = JobState::Queued;
    uid_t uid = 0;
    std::uint64_t started = 0; // µs since the epoch
    bool operator==(const JobRecord&) const = default;
};

struct Record {
    std::string name;
    std::string image; // empty: a VM that was found without a record
    uid_t owner = 0;
    InstanceType type = InstanceType::Vm;
    InstanceState state = InstanceState::Restoring;
    Backend backend = Backend::Auto; // Auto: not chosen yet
    std::string backend_reason;
    std::uint32_t restored_by = 0;    // id of the job that made the VM
    std::uint64_t started = 0;        // µs since the epoch
    std::string session;              // object path
    std::vector<std::string> written; // files of others that the VM writes
    std::string paused_for; // id of the full volume that paused it; empty: not paused by us
    Made made;
    std::optional<JobRecord> job; // the one that is at work
    bool operator==(const Record&) const = default;
};

std::string format_record(const Record& record);
// EBADMSG for damage, EPROTONOSUPPORT for another version.
Result<Record> parse_record(std::string_view text);

class RecordStore {
public:
    explicit RecordStore(std::string directory) : directory_(std::move(directory)) {}

    Result<> save(const Record& record) const;
    Result<> remove(const std::string& name) const;

    struct Damaged {
        std::string name; // as the file's name has it
        std::string why;
    };
    struct Content {
        std::vector<Record> records;
        std::vector<Damaged> damaged;
        std::vector<std::string> tickets; // names of VMs with a ticket
    };
    Result<Content> load() const;

    // Job ids are not used twice while the host runs: who waits for one must not get another.
    Result<std::uint32_t> last_job_id() const;
    Result<> save_last_job_id(std::uint32_t id) const;

    // Nothing when none was saved.
    Result<std::optional<Policy>> load_policy(const Policy& fallback) const;
    Result<> save_policy(const Policy& policy) const;

private:
    std::string directory_;
};

} // namespace thaw::restore
