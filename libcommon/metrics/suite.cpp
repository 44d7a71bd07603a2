// SPDX-License-Identifier: MIT
#include "metrics/suite.hpp"

#include "build_config.hpp"
#include "core/text.hpp"
#include "metrics/suite_rootfs.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace thaw::metrics {

namespace {

using Properties = std::map<std::string, nlohmann::json>;

constexpr double kUsecPerSecond = 1e6;
constexpr std::uint64_t kPage = 4096;

// What a property counts.
enum class Kind {
    Count,        // as it is
    Pages,        // 4 KiB pages, shown as bytes
    Microseconds, // shown as seconds
};

// One property of an object as a family with one sample per object.
struct Mapping {
    const char* property;
    const char* family;
    Type type;
    Kind kind;
    const char* help;
};

constexpr std::array kSession{
    Mapping{"MemorySize", "thaw_session_memory_bytes", Type::Gauge, Kind::Count, "Guest memory."},
    Mapping{
        "PagesInstalled", "thaw_session_installed_bytes", Type::Counter, Kind::Pages,
        "Guest memory loaded so far, zero pages included."
    },
    Mapping{
        "ZeroPages", "thaw_session_zero_bytes", Type::Counter, Kind::Pages,
        "Loaded as zeros without reading."
    },
    Mapping{
        "RemovedPages", "thaw_session_removed_bytes", Type::Counter, Kind::Pages,
        "Given back by the guest."
    },
    Mapping{
        "CheckedPages", "thaw_session_checked_bytes", Type::Counter, Kind::Pages,
        "Compared with their checksum."
    },
    Mapping{
        "BytesDemand", "thaw_session_demand_bytes", Type::Counter, Kind::Count,
        "Loaded because the guest asked."
    },
    Mapping{
        "BytesReplay", "thaw_session_replay_bytes", Type::Counter, Kind::Count,
        "Loaded ahead of the guest."
    },
    Mapping{
        "BytesRead", "thaw_session_read_bytes", Type::Counter, Kind::Count, "Read from the image."
    },
    Mapping{
        "ReplayUsedPages", "thaw_session_replay_used_bytes", Type::Counter, Kind::Pages,
        "Loaded ahead and asked for meanwhile."
    },
    Mapping{
        "ReplayWastedPages", "thaw_session_replay_wasted_bytes", Type::Counter, Kind::Pages,
        "Loaded ahead and given back untouched."
    },
    Mapping{"Faults", "thaw_session_faults", Type::Counter, Kind::Count, "Page faults taken up."},
    Mapping{
        "Removes", "thaw_session_removes", Type::Counter, Kind::Count,
        "Messages of memory given back."
    },
    Mapping{
        "Parked", "thaw_session_parked_faults", Type::Gauge, Kind::Count,
        "Faults that wait for a retry now."
    },
    Mapping{
        "Retries", "thaw_session_retries", Type::Counter, Kind::Count,
        "Second and later attempts at a fault."
    },
    Mapping{
        "PresentAlready", "thaw_session_present_already", Type::Counter, Kind::Count,
        "Fills that found the page in place."
    },
    Mapping{
        "Again", "thaw_session_again", Type::Counter, Kind::Count,
        "Fills that the kernel asked to repeat."
    },
    Mapping{
        "SourceErrors", "thaw_session_source_errors", Type::Counter, Kind::Count,
        "Failed reads and wrong checksums, retried ones included."
    },
    Mapping{
        "UnservablePages", "thaw_session_unservable_pages", Type::Counter, Kind::Count,
        "Pages that could not be served."
    },
    Mapping{
        "WorkerRestarts", "thaw_session_worker_restarts", Type::Counter, Kind::Count,
        "Workers that were lost and replaced."
    },
    Mapping{
        "OldestFaultUSec", "thaw_session_oldest_fault_seconds", Type::Gauge, Kind::Microseconds,
        "Age of the oldest unanswered fault."
    },
    Mapping{
        "HandshakeUSec", "thaw_session_handshake_seconds", Type::Gauge, Kind::Microseconds,
        "From the session's start to the handshake; 0 before it."
    },
    Mapping{
        "FirstFaultUSec", "thaw_session_first_fault_seconds", Type::Gauge, Kind::Microseconds,
        "From the session's start to the first fault; 0 before it."
    },
    Mapping{
        "WorkingSetUSec", "thaw_session_working_set_seconds", Type::Gauge, Kind::Microseconds,
        "From the session's start to the end of replay; 0 before it."
    },
    Mapping{
        "LastPageUSec", "thaw_session_last_page_seconds", Type::Gauge, Kind::Microseconds,
        "From the session's start to the last missing page; 0 before it."
    },
};

constexpr std::array kPager{
    Mapping{"NSessions", "thaw_pager_sessions", Type::Gauge, Kind::Count, "Pager sessions."},
    Mapping{
        "MaxSessions", "thaw_pager_sessions_max", Type::Gauge, Kind::Count, "Limit of sessions."
    },
    Mapping{
        "SafeMode", "thaw_pager_safe_mode", Type::Gauge, Kind::Count,
        "1 while the broker accepts nothing new."
    },
    Mapping{
        "SessionsMade", "thaw_pager_sessions_made", Type::Counter, Kind::Count,
        "Sessions made since the broker's start."
    },
    Mapping{
        "SessionsFailed", "thaw_pager_sessions_failed", Type::Counter, Kind::Count,
        "Sessions that failed since the broker's start."
    },
    Mapping{
        "WorkersLost", "thaw_pager_workers_lost", Type::Counter, Kind::Count,
        "Workers lost since the broker's start."
    },
    Mapping{
        "StoredDescriptors", "thaw_pager_stored_descriptors", Type::Gauge, Kind::Count,
        "Descriptors in the store of the service manager."
    },
};

constexpr std::array kRestore{
    Mapping{"NInstances", "thaw_instances", Type::Gauge, Kind::Count, "VMs on the books."},
    Mapping{"NJobs", "thaw_jobs", Type::Gauge, Kind::Count, "Jobs at work or waiting."},
    Mapping{"MaxJobs", "thaw_jobs_max", Type::Gauge, Kind::Count, "Limit of jobs."},
};

constexpr std::array kJobKinds{"restore", "stop", "record", "snapshot"};
constexpr std::array kJobResults{"done", "failed", "canceled", "timeout"};
constexpr std::array kSessionStates{"listening", "handshaking", "serving",
                                    "complete",  "failed",      "closed"};

std::uint64_t number(const Properties& properties, const char* name) {
    const auto found = properties.find(name);
    if (found == properties.end()) return 0;
    if (found->second.is_boolean()) return found->second.get<bool>() ? 1 : 0;
    return found->second.is_number_unsigned() ? found->second.get<std::uint64_t>() : 0;
}

std::string text(const Properties& properties, const char* name) {
    const auto found = properties.find(name);
    return found != properties.end() && found->second.is_string() ? found->second.get<std::string>()
                                                                  : std::string();
}

std::string unit_of(std::string_view family) {
    for (const auto* unit : {"bytes", "seconds"})
        if (family.ends_with(std::string("_") + unit)) return unit;
    return {};
}

Family family_of(const Mapping& mapping) {
    return {mapping.family, mapping.type, unit_of(mapping.family), mapping.help};
}

void add(Family& family, const Mapping& mapping, const Labels& labels, const Properties& of) {
    const auto value = number(of, mapping.property);
    if (mapping.kind == Kind::Microseconds)
        family.add(labels, static_cast<double>(value) / kUsecPerSecond);
    else
        family.add(labels, mapping.kind == Kind::Pages ? value * kPage : value);
}

struct Session {
    Labels labels;
    const Properties* properties;
};

std::vector<Session> sessions_of(const Answer& pager) {
    std::vector<Session> sessions;
    for (const auto& object : pager.objects) {
        const auto found = object.interfaces.find("org.thaw.pager1.Session");
        if (found == object.interfaces.end()) continue;
        const auto& properties = found->second;
        sessions.push_back(
            {{{"vm", text(properties, "Name")}, {"image", text(properties, "Image")}}, &properties}
        );
    }
    return sessions;
}

void add_latency(std::vector<Family>& families, const std::vector<Session>& sessions) {
    Family family(
        "thaw_session_fault_latency_seconds", Type::Histogram, "seconds",
        "From taking up a fault to its answer."
    );
    for (const auto& session : sessions) {
        const auto found = session.properties->find("FaultLatency");
        if (found == session.properties->end() || !found->second.is_array()) continue;
        std::vector<std::uint64_t> counts;
        for (const auto& count : found->second)
            counts.push_back(count.is_number_unsigned() ? count.get<std::uint64_t>() : 0);
        if (counts.empty()) continue;
        family.add_histogram(
            session.labels, latency_bounds(counts.size()), counts,
            static_cast<double>(number(*session.properties, "FaultLatencySumUSec")) / kUsecPerSecond
        );
    }
    families.push_back(std::move(family));
}

void add_states(std::vector<Family>& families, const std::vector<Session>& sessions) {
    Family family("thaw_pager_sessions_by_state", Type::Gauge, "", "Pager sessions by state.");
    for (const auto* state : kSessionStates)
        family.add(
            {{"state", state}},
            static_cast<std::uint64_t>(std::ranges::count_if(
                sessions, [&](const auto& s) { return text(*s.properties, "State") == state; }
            ))
        );
    families.push_back(std::move(family));
}

// JobResults is a list of (kind, result, count).
void add_jobs(std::vector<Family>& families, const Properties& restored) {
    Family family(
        "thaw_jobs_ended", Type::Counter, "", "Jobs that ended since the daemon's start."
    );
    const auto found = restored.find("JobResults");
    for (const auto* kind : kJobKinds)
        for (const auto* result : kJobResults) {
            std::uint64_t count = 0;
            if (found != restored.end())
                for (const auto& row : found->second)
                    if (row.is_array() && row.size() == 3 && row[0] == kind && row[1] == result &&
                        row[2].is_number_unsigned())
                        count = row[2].get<std::uint64_t>();
            family.add({{"kind", kind}, {"result", result}}, count);
        }
    families.push_back(std::move(family));
}

// Of every daemon that counts it. One whose kernel does not say has no number, and says so.
void add_throttle(std::vector<Family>& families, const Answers& answers) {
    Family known(
        "thaw_dirty_throttle_known", Type::Gauge, "",
        "Whether the daemon can see that the kernel holds its writers back."
    );
    Family seen(
        "thaw_dirty_throttled_threads", Type::Counter, "",
        "Threads seen in balance_dirty_pages, once a second while something is written."
    );
    Family looks("thaw_dirty_throttle_looks", Type::Counter, "", "Looks for such threads.");
    for (std::size_t i = 0; i < kDaemons.size(); ++i) {
        const Labels labels{{"daemon", std::string(kDaemons[i].name)}};
        const Properties& manager = answers[i].manager;
        const std::string state = text(manager, "DirtyThrottle");
        const bool is_known = state == "idle" || state == "writing";
        known.add(labels, std::uint64_t{is_known});
        if (answers[i].up && !is_known) continue;
        seen.add(labels, number(manager, "DirtyThrottled"));
        looks.add(labels, number(manager, "DirtyThrottleLooks"));
    }
    families.push_back(std::move(known));
    families.push_back(std::move(seen));
    families.push_back(std::move(looks));
}

template <std::size_t N>
void add_manager(
    std::vector<Family>& families, const std::array<Mapping, N>& mappings, const Answer& answer
) {
    for (const auto& mapping : mappings) {
        auto family = family_of(mapping);
        add(family, mapping, {}, answer.manager);
        families.push_back(std::move(family));
    }
}

} // namespace

std::vector<double> latency_bounds(std::size_t buckets) {
    std::vector<double> bounds;
    for (std::size_t i = 0; i + 1 < buckets; ++i)
        bounds.push_back(static_cast<double>(std::uint64_t{1} << i) / kUsecPerSecond);
    return bounds;
}

std::string
suite_exposition(const Answers& answers, const std::vector<protocol::RootfsStatus>* overlays) {
    std::vector<Family> families;
    Family build("thaw_build", Type::Info, "", "The version that answers.");
    build.add({{"version", THAW_VERSION}}, std::uint64_t{1});
    families.push_back(std::move(build));
    Family up("thaw_up", Type::Gauge, "", "Whether the daemon answers.");
    for (std::size_t i = 0; i < kDaemons.size(); ++i)
        up.add({{"daemon", std::string(kDaemons[i].name)}}, std::uint64_t{answers[i].up});
    families.push_back(std::move(up));

    add_manager(families, kRestore, answers[0]);
    add_jobs(families, answers[0].manager);
    add_throttle(families, answers);
    add_manager(families, kPager, answers[1]);
    const auto sessions = sessions_of(answers[1]);
    add_states(families, sessions);
    for (const auto& mapping : kSession) {
        auto family = family_of(mapping);
        for (const auto& session : sessions)
            add(family, mapping, session.labels, *session.properties);
        families.push_back(std::move(family));
    }
    add_latency(families, sessions);
    if (overlays != nullptr) add_overlays(families, *overlays);
    return exposition(families);
}

} // namespace thaw::metrics
