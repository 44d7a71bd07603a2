// SPDX-License-Identifier: MIT
#include "log_watch.hpp"

#include "event/priorities.hpp"

#include <systemd/sd-journal.h>

#include <sys/epoll.h>

#include <ranges>
#include <string_view>
#include <vector>

namespace thaw::sharesd {

namespace {

// Files that cannot be watched (on network file systems) are looked at so often.
constexpr Microseconds kPollInterval = 2 * kUsecPerSec;
// Lines read in a row; a daemon that floods the journal must not keep us from everything else.
constexpr unsigned kBatch = 256;

std::string field(sd_journal* journal, const char* name) {
    const void* data = nullptr;
    std::size_t size = 0;
    if (sd_journal_get_data(journal, name, &data, &size) < 0) return {};
    const std::string_view text(static_cast<const char*>(data), size);
    return std::string(text.substr(text.find('=') + 1));
}

LogLine read_line(sd_journal* journal) {
    return {
        .unit = field(journal, "_SYSTEMD_UNIT"),
        .invocation = field(journal, "_SYSTEMD_INVOCATION_ID"),
        .text = field(journal, "MESSAGE"),
    };
}

using Journal = std::unique_ptr<sd_journal, void (*)(sd_journal*)>;

Result<Journal> open_journal() {
    sd_journal* opened = nullptr;
    int r = sd_journal_open(&opened, SD_JOURNAL_LOCAL_ONLY);
    if (r < 0) return fail_errno(-r, "open the journal");
    Journal journal(opened, sd_journal_close);
    const auto match = fmt::format("SYSLOG_IDENTIFIER={}", kDaemonIdentifier);
    r = sd_journal_add_match(opened, match.c_str(), 0);
    if (r < 0) return fail_errno(-r, "search the journal");
    return journal;
}

} // namespace

Result<std::unique_ptr<LogWatch>> LogWatch::start(EventLoop& loop, Handler handler) {
    THAW_TRY(auto journal, open_journal());
    // Not the tail: from there a journal without a match so far never goes on.
    if (const int r = sd_journal_seek_realtime_usec(journal.get(), now_realtime()); r < 0)
        return fail_errno(-r, "search the journal");
    std::unique_ptr<LogWatch> watch(new LogWatch(journal.release(), std::move(handler)));
    THAW_CHECK(watch->attach(loop));
    return watch;
}

LogWatch::~LogWatch() {
    source_.reset();
    sd_journal_close(journal_);
}

Result<> LogWatch::attach(EventLoop& loop) {
    loop_ = &loop;
    const int fd = sd_journal_get_fd(journal_);
    if (fd < 0) return fail_errno(-fd, "watch the journal");
    THAW_TRY(
        source_, loop.add_io(
                     fd, EPOLLIN, [this](std::uint32_t) { drain(); }, "journal", priority::kNotify
                 )
    );
    if (sd_journal_reliable_fd(journal_) > 0) return {};
    THAW_TRY(
        poll_, loop.add_timer(
                   kPollInterval,
                   [this] {
                       drain();
                       (void)poll_.rearm(kPollInterval); // the source is there
                   },
                   "journal-poll", priority::kTimer
               )
    );
    return {};
}

void LogWatch::drain() {
    (void)sd_journal_process(journal_); // what cannot be read now comes later
    for (unsigned read = 0; read < kBatch; ++read) {
        if (sd_journal_next(journal_) <= 0) return;
        const auto line = read_line(journal_);
        if (!line.unit.empty()) handler_(line);
    }
    auto more = loop_->add_defer([this] { drain(); }, "journal-more", priority::kNotify);
    // Without it the rest comes with the next line.
    if (more) more_ = std::move(*more);
}

Result<> LogWatch::replay(const std::string& unit, Microseconds since, const Handler& handler) {
    THAW_TRY(const auto journal, open_journal());
    const auto match = fmt::format("_SYSTEMD_UNIT={}", unit);
    int r = sd_journal_add_match(journal.get(), match.c_str(), 0);
    if (r >= 0) r = sd_journal_seek_tail(journal.get());
    if (r < 0) return fail_errno(-r, "search the journal");
    std::vector<LogLine> lines;
    while (lines.size() < kBatch && sd_journal_previous(journal.get()) > 0) {
        std::uint64_t when = 0;
        if (sd_journal_get_realtime_usec(journal.get(), &when) < 0 || when < since) break;
        lines.push_back(read_line(journal.get()));
    }
    for (const auto& line : lines | std::views::reverse)
        handler(line);
    return {};
}

} // namespace thaw::sharesd
