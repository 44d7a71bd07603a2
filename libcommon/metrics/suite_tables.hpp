// SPDX-License-Identifier: MIT
#pragma once

// Which property of which daemon is which series. For suite.cpp alone.

#include "metrics/openmetrics.hpp"

#include <array>
#include <cstdint>

namespace thaw::metrics {

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

inline constexpr std::array kSession{
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

inline constexpr std::array kPager{
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

inline constexpr std::array kRestore{
    Mapping{"NInstances", "thaw_instances", Type::Gauge, Kind::Count, "VMs on the books."},
    Mapping{"NJobs", "thaw_jobs", Type::Gauge, Kind::Count, "Jobs at work or waiting."},
    Mapping{"MaxJobs", "thaw_jobs_max", Type::Gauge, Kind::Count, "Limit of jobs."},
};

// org.thaw.pager1.Cache
inline constexpr std::array kCache{
    Mapping{"Images", "thaw_cache_images", Type::Gauge, Kind::Count, "Remote images in the cache."},
    Mapping{"MemoryUsed", "thaw_cache_memory_bytes", Type::Gauge, Kind::Count, "Chunks in memory."},
    Mapping{"MemoryMax", "thaw_cache_memory_max_bytes", Type::Gauge, Kind::Count, "Their limit."},
    Mapping{"DiskUsed", "thaw_cache_disk_bytes", Type::Gauge, Kind::Count, "Chunks on disk."},
    Mapping{"DiskMax", "thaw_cache_disk_max_bytes", Type::Gauge, Kind::Count, "Their limit."},
    Mapping{
        "Hits", "thaw_cache_hits", Type::Counter, Kind::Count,
        "Chunks asked for that were in memory."
    },
    Mapping{
        "Misses", "thaw_cache_misses", Type::Counter, Kind::Count,
        "Chunks asked for that had to be waited for."
    },
    Mapping{
        "Fetches", "thaw_cache_fetches", Type::Counter, Kind::Count,
        "Fetches from sources, repeated ones included."
    },
    Mapping{
        "BytesFetched", "thaw_cache_fetched_bytes", Type::Counter, Kind::Count,
        "Fetched and found to be what was sealed."
    },
    Mapping{"Loads", "thaw_cache_loads", Type::Counter, Kind::Count, "Chunks read back from disk."},
    Mapping{"Spills", "thaw_cache_spills", Type::Counter, Kind::Count, "Chunks written to disk."},
    Mapping{
        "BytesStored", "thaw_cache_stored_bytes", Type::Counter, Kind::Count, "Written to disk."
    },
    Mapping{
        "Evictions", "thaw_cache_evictions", Type::Counter, Kind::Count,
        "Chunks whose memory was given back."
    },
    Mapping{
        "DiskEvictions", "thaw_cache_disk_evictions", Type::Counter, Kind::Count,
        "Chunks whose room on disk was given back."
    },
    Mapping{
        "Failures", "thaw_cache_failures", Type::Counter, Kind::Count,
        "Chunks that could not be had."
    },
    Mapping{
        "Corrupt", "thaw_cache_corrupt", Type::Counter, Kind::Count,
        "Times that what came was not what was sealed."
    },
    Mapping{
        "FetcherDeaths", "thaw_cache_fetcher_deaths", Type::Counter, Kind::Count,
        "Times that thaw-fetchd ended with requests under way."
    },
};

} // namespace thaw::metrics
