// SPDX-License-Identifier: MIT
#include "session_view.hpp"

#include "exit_codes.hpp"
#include "image/memory_map.hpp"
#include "top_rates.hpp"

#include <utility>
#include <vector>

namespace thaw::ctl {

namespace {

std::uint64_t page_bytes(const Properties& session, const char* property) {
    return session.number(property) * image::kMapPageSize; // 4 KiB, whatever the VMM's are
}

std::string memory_line(const Properties& session) {
    const auto size = session.number("MemorySize");
    if (size == 0) return {};
    const auto present = page_bytes(session, "PagesInstalled");
    return fmt::format(
        "{}, {} loaded ({:.1f}%), {} of it zero, {} freed by the guest", format_size(size),
        format_size(present), static_cast<double>(present) * 100 / static_cast<double>(size),
        format_size(page_bytes(session, "ZeroPages")),
        format_size(page_bytes(session, "RemovedPages"))
    );
}

std::string joined(const std::vector<std::pair<std::string, std::uint64_t>>& parts) {
    std::string text;
    for (const auto& [what, count] : parts)
        if (count != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
    return text;
}

std::string latency(const Properties& session) {
    const auto found = session.values.find("FaultLatency");
    if (found == session.values.end() || !found->second.is_array()) return {};
    std::vector<std::uint64_t> counts;
    for (const auto& count : found->second)
        counts.push_back(count.is_number_unsigned() ? count.get<std::uint64_t>() : 0);
    std::uint64_t all = 0;
    for (const auto count : counts)
        all += count;
    const auto p50 = percentile(counts, 0.5);
    const auto p99 = percentile(counts, 0.99);
    if (!p50 || !p99 || all == 0) return {};
    return fmt::format(
        "mean {}, p50 < {}, p99 < {}", format_timespan(session.number("FaultLatencySumUSec") / all),
        format_timespan(*p50), format_timespan(*p99)
    );
}

std::string loaded_line(const Properties& session) {
    std::string text;
    for (const auto& [property, what] :
         {std::pair{"BytesDemand", "on demand"}, std::pair{"BytesReplay", "ahead"},
          std::pair{"BytesPopulate", "by complete"}, std::pair{"BytesZero", "zeros"},
          std::pair{"BytesRemoved", "given back"}})
        if (const auto bytes = session.number(property); bytes != 0)
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", format_size(bytes), what);
    return text;
}

std::string replay_line(const Properties& session) {
    auto state = session.text("ReplayState");
    if (state.empty() || state == "none") return {};
    const auto why = session.text("ReplayReason");
    if (!why.empty() && why != "none") state += fmt::format(" ({})", why);
    if (const auto io = session.text("ReplayIO"); !io.empty()) state += fmt::format(", {}", io);
    return fmt::format(
        "{}, {} of {}; {} loaded, {} asked for meanwhile, {} too late, {} given back", state,
        format_size(session.number("ReplayDone")), format_size(session.number("ReplayTotal")),
        format_size(page_bytes(session, "ReplayPages")),
        format_size(page_bytes(session, "ReplayUsedPages")),
        format_size(page_bytes(session, "ReplayLatePages")),
        format_size(page_bytes(session, "ReplayWastedPages"))
    );
}

std::string times_line(const Properties& session) {
    std::string text;
    for (const auto& [property, what] :
         {std::pair{"HandshakeUSec", "handshake"}, std::pair{"FirstFaultUSec", "first fault"},
          std::pair{"WorkingSetUSec", "working set"}, std::pair{"LastPageUSec", "last page"}})
        if (const auto after = session.number(property); after != 0)
            text += fmt::format(
                "{}{} after {}", text.empty() ? "" : ", ", what, format_timespan(after)
            );
    return text;
}

} // namespace

void add_session(Fields& fields, const Properties& session) {
    const auto state = session.text("State");
    fields.add("Pager", state, color_of_state(state));
    if (!session.text("ErrorName").empty())
        fields.add(
            "Pager error",
            fmt::format(
                "{}: {}", short_error_name(session.text("ErrorName")), session.text("ErrorMessage")
            ),
            Color::Bad
        );
    fields.add(
        "Worker",
        fmt::format(
            "PID {} ({} restarts), VMM PID {}, {}", session.number("WorkerPID"),
            session.number("WorkerRestarts"), session.number("VmmPID"), session.text("Engine")
        )
    );
    fields.add("Memory", memory_line(session));
    fields.add("Loaded", loaded_line(session));
    fields.add(
        "Faults", fmt::format(
                      "{} served, {} parked, {} retries, {} read", session.number("Faults"),
                      session.number("Parked"), session.number("Retries"),
                      format_size(session.number("BytesRead"))
                  )
    );
    fields.add("Latency", latency(session));
    fields.add("Replay", replay_line(session));
    fields.add(
        "Checked",
        joined(
            {{"pages", session.number("CheckedPages")},
             {"source errors", session.number("SourceErrors")},
             {"unservable pages", session.number("UnservablePages")}}
        ),
        session.number("UnservablePages") != 0 ? Color::Bad : Color::None
    );
    fields.add(
        "Met", joined(
                   {{"present already", session.number("PresentAlready")},
                    {"to repeat", session.number("Again")},
                    {"cut short", session.number("Partial")},
                    {"outside", session.number("Gone")},
                    {"removals", session.number("Removes")}}
               )
    );
    fields.add("Times", times_line(session));
    for (const char* flag : {"StopPending", "Recording", "Quiesced", "Adopting"})
        if (session.flag(flag)) fields.add(flag, "yes", Color::Warning);
}

} // namespace thaw::ctl
