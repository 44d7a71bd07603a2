// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "core/scm.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <functional>

namespace thaw {
namespace {

// What `act` writes to standard error, through a file in its place.
std::string captured_stderr(const std::function<void(const std::string& path)>& act) {
    const test::TemporaryDirectory folder;
    const auto path = folder.write("stderr", "");
    const Fd saved(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
    const Fd file = open_file(path, O_WRONLY | O_APPEND).value();
    dup2(file.get(), STDERR_FILENO);
    act(path);
    dup2(saved.get(), STDERR_FILENO);
    return read_file(path).value();
}

class LogTest : public testing::Test {
protected:
    void SetUp() override { reset(); }
    void TearDown() override { reset(); }
    static void reset() {
        for (const char* name : {"THAW_LOG_LEVEL", "DEBUG_INVOCATION", "JOURNAL_STREAM"})
            unsetenv(name);
        set_log_level(LogLevel::Info);
        set_log_target(LogTarget::Auto);
        log_init("test-log");
    }
};

TEST_F(LogTest, LevelsHaveNames) {
    EXPECT_EQ(log_level_name(LogLevel::Error), "err");
    EXPECT_EQ(log_level_name(LogLevel::Debug), "debug");
    EXPECT_EQ(log_level_from_string("notice"), LogLevel::Notice);
    EXPECT_EQ(log_level_from_string("crit"), LogLevel::Error);
    EXPECT_EQ(log_level_from_string("7"), LogLevel::Debug);
    EXPECT_EQ(log_level_from_string("loud"), std::nullopt);
    EXPECT_EQ(log_level_from_string(""), std::nullopt);
}

TEST_F(LogTest, EnvironmentSetsTheLevel) {
    setenv("DEBUG_INVOCATION", "1", 1);
    log_init("x");
    EXPECT_EQ(log_level(), LogLevel::Debug);
    setenv("THAW_LOG_LEVEL", "warning", 1);
    log_init("x");
    EXPECT_EQ(log_level(), LogLevel::Warning);
    setenv("THAW_LOG_LEVEL", "nonsense", 1);
    unsetenv("DEBUG_INVOCATION");
    log_init("y");
    EXPECT_EQ(log_level(), LogLevel::Warning);
    EXPECT_EQ(log_identifier(), "y");
}

TEST_F(LogTest, StderrHasTheMessageAndNoFields) {
    const auto text = captured_stderr([](const std::string&) {
        log_info("plain {}", 1);
        log_error({{"THAW_INSTANCE", "vm"}}, "bad {}", "thing");
        log_warning("careful");
        log_debug("hidden");
    });
    EXPECT_EQ(text, "test-log: plain 1\ntest-log: error: bad thing\ntest-log: warning: careful\n");
}

TEST_F(LogTest, DebugShowsFieldsThatAreValid) {
    set_log_level(LogLevel::Debug);
    const auto text = captured_stderr([](const std::string&) {
        const LogFields fields = {{"THAW_JOB", "7"}, {"_UID", "0"},
                                  {"lower", "x"},    {"", "x"},
                                  {"PRIORITY", "0"}, {"A=B", "x"},
                                  {"1A", "x"},       {std::string(65, 'A'), "x"},
                                  {"A1_", "y"}};
        log_event(LogLevel::Debug, message_id::kRestoreDone, fields, "done");
    });
    EXPECT_EQ(text, "test-log: debug: done THAW_JOB=7 A1_=y\n");
}

TEST_F(LogTest, KeepsErrnoAndSurvivesAClosedStderr) {
    const Fd saved(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
    close(STDERR_FILENO);
    errno = ENOTTY;
    log_error("nobody listens");
    const int after = errno;
    dup2(saved.get(), STDERR_FILENO);
    EXPECT_EQ(after, ENOTTY);
}

// The journal: a socket of our own in the place of journald's, in a mount namespace of a child.
constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

class FakeJournal {
public:
    // False where namespaces are not allowed.
    bool start() {
        if (unshare(CLONE_NEWNS) < 0) return false;
        if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return false;
        if (mount("tmpfs", "/run", "tmpfs", 0, nullptr) < 0) return false;
        if (!make_directories("/run/systemd/journal")) return false;
        socket_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
        std::string_view(kJournalSocket).copy(address.sun_path, sizeof(address.sun_path) - 1);
        const auto* generic = reinterpret_cast<const sockaddr*>(&address);
        return bind(socket_.get(), generic, sizeof(address)) == 0;
    }
    // The next entry in journald's own format, "" when there is none.
    std::string next() {
        std::array<std::byte, 65536> buffer = {};
        const auto message = receive_message(socket_.get(), buffer, 1);
        if (!message) return "";
        return {reinterpret_cast<const char*>(buffer.data()), message->size};
    }

private:
    Fd socket_;
};

// Runs `act` in a child; skips the test where it cannot have a journal.
void with_journal(const std::function<void(FakeJournal&)>& act) {
    constexpr int kNotHere = 77;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        FakeJournal journal;
        if (!journal.start()) _exit(kNotHere);
        act(journal);
        fflush(nullptr);
        _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNotHere)
        GTEST_SKIP() << "no mount namespaces here";
    EXPECT_EQ(status, 0);
}

bool has(const std::string& entry, const std::string& line) {
    return ("\n" + entry).find("\n" + line + "\n") != std::string::npos;
}

TEST_F(LogTest, JournalEntriesCarryTheirFields) {
    with_journal([](FakeJournal& journal) {
        set_log_target(LogTarget::Journal);
        const LogFields fields = {{"THAW_INSTANCE", "web-1"}, {"_PID", "1"}, {"MESSAGE", "forged"}};
        const auto where = std::source_location::current();
        log_event(LogLevel::Error, message_id::kRestoreFailed, fields, "{}: {}", "web-1", "why");
        const auto entry = journal.next();
        EXPECT_TRUE(has(entry, "MESSAGE=web-1: why")) << entry;
        EXPECT_TRUE(has(entry, "PRIORITY=3")) << entry;
        EXPECT_TRUE(has(entry, "SYSLOG_IDENTIFIER=test-log")) << entry;
        EXPECT_TRUE(has(entry, "MESSAGE_ID=5354d5d99f63827860a24e1190aebf98")) << entry;
        EXPECT_TRUE(has(entry, "THAW_INSTANCE=web-1")) << entry;
        EXPECT_TRUE(has(entry, fmt::format("CODE_LINE={}", where.line() + 1))) << entry;
        EXPECT_NE(entry.find("log_test.cpp"), std::string::npos);
        EXPECT_EQ(entry.find("_PID"), std::string::npos);
        EXPECT_EQ(entry.find("forged"), std::string::npos);
    });
}

TEST_F(LogTest, ANewlineInAValueForgesNothing) {
    with_journal([](FakeJournal& journal) {
        set_log_target(LogTarget::Journal);
        log_error({{"THAW_IMAGE", "x\nPRIORITY=0"}}, "two\nlines");
        const auto entry = journal.next();
        // The binary form: name, newline, length, bytes.
        EXPECT_FALSE(has(entry, "THAW_IMAGE=x")) << entry;
        const std::string length("\x0c\0\0\0\0\0\0\0", 8);
        EXPECT_NE(entry.find("THAW_IMAGE\n" + length + "x\nPRIORITY=0\n"), std::string::npos);
        EXPECT_NE(
            entry.find(std::string("MESSAGE\n\x09\0\0\0\0\0\0\0", 16) + "two\nlines\n"),
            std::string::npos
        );
    });
}

TEST_F(LogTest, AutoFollowsJournalStream) {
    with_journal([](FakeJournal& journal) {
        std::string entry;
        const auto text = captured_stderr([&](const std::string& path) {
            struct stat st = {};
            ASSERT_EQ(stat(path.c_str(), &st), 0);
            const auto stream = fmt::format("{}:{}", st.st_dev, st.st_ino);
            setenv("JOURNAL_STREAM", stream.c_str(), 1);
            log_init("test-log");
            log_info("to the journal");
            entry = journal.next();
            setenv("JOURNAL_STREAM", fmt::format("{}:{}", st.st_dev, st.st_ino + 1).c_str(), 1);
            log_init("test-log");
            log_info("somebody else's stream");
            setenv("JOURNAL_STREAM", stream.c_str(), 1);
            log_init("test-log");
            set_log_target(LogTarget::Stderr);
            log_info("as asked");
        });
        EXPECT_TRUE(has(entry, "MESSAGE=to the journal")) << entry;
        EXPECT_EQ(text, "test-log: somebody else's stream\ntest-log: as asked\n");
        EXPECT_EQ(journal.next(), "");
    });
}

} // namespace
} // namespace thaw
