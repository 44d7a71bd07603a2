// SPDX-License-Identifier: MIT
#include "metrics/suite.hpp"

#include "build_config.hpp"
#include "core/text.hpp"
#include "metrics/suite_rootfs.hpp"
#include "metrics/suite_tables.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace thaw::metrics {

namespace {

using Properties = std::map<std::string, nlohmann::json>;

constexpr double kUsecPerSecond = 1e6;
constexpr std::uint64_t kPage = 4096;

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

// An empty one where there is none.
std::vector<std::uint64_t> buckets_of(const Properties& properties, const char* property) {
    constexpr std::size_t kBuckets = 32;
    std::vector<std::uint64_t> counts;
    const auto found = properties.find(property);
    if (found != properties.end() && found->second.is_array())
        for (const auto& count : found->second)
            counts.push_back(count.is_number_unsigned() ? count.get<std::uint64_t>() : 0);
    if (counts.empty()) counts.resize(kBuckets);
    return counts;
}

// `property` has the buckets, and with SumUSec behind it the sum.
void add_times(
    Family& family, const Labels& labels, const Properties& properties, const std::string& property
) {
    const auto counts = buckets_of(properties, property.c_str());
    const auto sum = static_cast<double>(number(properties, (property + "SumUSec").c_str()));
    family.add_histogram(labels, latency_bounds(counts.size()), counts, sum / kUsecPerSecond);
}

void add_latency(std::vector<Family>& families, const std::vector<Session>& sessions) {
    Family family(
        "thaw_session_fault_latency_seconds", Type::Histogram, "seconds",
        "From taking up a fault to its answer."
    );
    for (const auto& session : sessions)
        if (session.properties->contains("FaultLatency"))
            add_times(family, session.labels, *session.properties, "FaultLatency");
    families.push_back(std::move(family));
}

void add_cache_times(std::vector<Family>& families, const Properties& pager) {
    Family fetch(
        "thaw_cache_fetch_seconds", Type::Histogram, "seconds",
        "From the need of a chunk to all of it in memory."
    );
    add_times(fetch, {}, pager, "FetchLatency");
    families.push_back(std::move(fetch));
    Family store(
        "thaw_cache_store_seconds", Type::Histogram, "seconds", "Writing a chunk to disk."
    );
    add_times(store, {}, pager, "StoreTime");
    families.push_back(std::move(store));
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
    add_manager(families, kCache, answers[1]);
    add_cache_times(families, answers[1].manager);
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
