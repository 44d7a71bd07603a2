// SPDX-License-Identifier: MIT
#include "log_watch.hpp"

#include "event/priorities.hpp"

#include <systemd/sd-journal.h>

#include <sys/epoll.h>

#include <string_view>

namespace thaw::sharesd {

namespace {

// Files that cannot be watched (on network file systems) are looked at so often.
constexpr Microseconds kPollInterval = 2 * kUsecPerSec;

std::string field(sd_journal* journal, const char* name) {
    const void* data = nullptr;
    std::size_t size = 0;
    if (sd_journal_get_data(journal, name, &data, &size) < 0) return {};
    const std::string_view text(static_cast<const char*>(data), size);
    return std::string(text.substr(text.find('=') + 1));
}

Result<sd_journal*> open_journal(Microseconds since) {
    sd_journal* journal = nullptr;
    int r = sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY);
    if (r < 0) return fail_errno(-r, "open the journal");
    const auto match = fmt::format("SYSLOG_IDENTIFIER={}", kDaemonIdentifier);
    r = sd_journal_add_match(journal, match.c_str(), 0);
    // Not the tail: from there a journal without a match so far never goes on.
    if (r >= 0) r = sd_journal_seek_realtime_usec(journal, since);
    if (r < 0) {
        sd_journal_close(journal);
        return fail_errno(-r, "search the journal");
    }
    return journal;
}

} // namespace

Result<std::unique_ptr<LogWatch>> LogWatch::start(EventLoop& loop, Handler handler) {
    THAW_TRY(auto* journal, open_journal(now_realtime()));
    std::unique_ptr<LogWatch> watch(new LogWatch(journal, std::move(handler)));
    THAW_CHECK(watch->attach(loop));
    return watch;
}

LogWatch::~LogWatch() {
    source_.reset();
    sd_journal_close(journal_);
}

Result<> LogWatch::attach(EventLoop& loop) {
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
    while (sd_journal_next(journal_) > 0) {
        const auto unit = field(journal_, "_SYSTEMD_UNIT");
        if (!unit.empty()) handler_(unit, field(journal_, "MESSAGE"));
    }
}

Result<> LogWatch::replay(
    const std::string& unit, Microseconds since,
    const std::function<void(const std::string& line)>& handler
) {
    THAW_TRY(auto* journal, open_journal(since));
    const std::unique_ptr<sd_journal, void (*)(sd_journal*)> owner(journal, sd_journal_close);
    while (sd_journal_next(journal) > 0)
        if (field(journal, "_SYSTEMD_UNIT") == unit) handler(field(journal, "MESSAGE"));
    return {};
}

} // namespace thaw::sharesd
