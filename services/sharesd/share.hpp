// SPDX-License-Identifier: MIT
#pragma once

// One share: /org/thaw/shares1/share/VM:TAG. Starts its daemon, watches its life, its budget and
// its VM, and ends it. What is decided from what is seen stands in levels, limits and exit_class.

#include "context.hpp"
#include "levels.hpp"
#include "log/log.hpp"
#include "share_bring_up.hpp"
#include "share_state.hpp"
#include "share_teardown.hpp"

#include <systemd/sd-bus-vtable.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::sharesd {

class Share {
public:
    struct Requests {
        // Answers the message sooner or later.
        std::function<Result<>(Share&, BusMessage)> remove;
        std::function<Result<>(Share&, BusMessage)> raise_limit;
        std::function<Result<>(Share&, BusMessage)> drop_caches;
        // The share is over and nothing is left of it; may free the share later, not at once.
        std::function<void(Share&, std::string_view result)> ended;
    };
    Share(const Context& context, Record record, const Requests& requests);
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    const Record& record() const { return record_; }
    const std::string& id() const { return id_; }
    const std::string& path() const { return path_; }
    const std::string& socket() const { return socket_; }
    const std::string& service() const { return service_; }
    ShareState state() const { return state_; }
    Level worst_level() const { return std::max(descriptor_level_, memory_level_); }
    // Objects on the bus only: a share whose start fails was never there.
    bool is_published() const { return published_; }
    void publish() { published_ = true; }
    bool is_ending() const { return teardown_ != nullptr; }

    // First start. `done` hears Success with the share up, or why not and that nothing is left.
    using Done = std::function<void(Result<>)>;
    void start(Source source, const std::vector<std::string>& command, Done done);
    // After a restart of ours: takes up what is there.
    void adopt(Done done);
    // Ends it, whoever uses it. `done` hears StopFailed when it cannot be ended.
    void remove(std::string_view result, Done done);

    // A line of its unit; those of a daemon that ended before are passed over.
    void on_log(const LogLine& line);
    Result<> raise_limit(std::uint64_t limit);
    Result<> drop_caches();

    LogFields log_fields() const;
    static const sd_bus_vtable* vtable();

private:
    // share.cpp
    void set_state(ShareState state);
    void changed(std::vector<std::string> properties);
    void keep();
    void watch_vm();
    Result<> write_files(const std::vector<std::string>& command);

    // share_life.cpp
    void bring_up(const Source* source);
    void on_up(Result<ShareBringUp::Up> up);
    void take_up(const ShareBringUp::Up& up);
    void find_unit();
    void on_found_unit(const UnitState& unit);
    void on_service(const UnitState& unit);
    void daemon_ended(const UnitState& unit);
    void await_last_words(unsigned looks);
    void conclude();
    void follow(const Follow& next);
    void restart();
    void lose(std::string_view error_name, const std::string& message);
    void abandon(Error error);
    std::uint64_t count_restart();
    void note_line(const LogLine& line);
    void forget_lines();
    bool has_logged_error() const;

    // share_budget.cpp
    void poll();
    void measure();
    void look_for_client();
    void set_levels(std::optional<std::uint64_t> used, std::optional<std::uint64_t> rss);
    void report_level(
        std::string_view resource, Level from, Level to, std::uint64_t used, std::uint64_t budget
    );
    void set_exhausted(bool exhausted);
    void on_exhausted_line();
    void forget_use();
    std::vector<std::string> current_remedies() const;
    std::uint64_t budget() const;

    // share_bus.cpp
    Result<> method_remove(BusMessage message);
    Result<> method_raise_limit(BusMessage message);
    Result<> method_drop_caches(BusMessage message);
    template <auto Text>
    Result<> append_text(BusMessage& reply) const;
    template <auto Number>
    Result<> append_number(BusMessage& reply) const;
    template <auto Flag>
    Result<> append_flag(BusMessage& reply) const;
    Result<> append_owner(BusMessage& reply) const;
    Result<> append_remedies(BusMessage& reply) const;
    Result<> append_main_pid(BusMessage& reply) const;
    Result<> append_worker_pid(BusMessage& reply) const;
    Result<> append_restarts(BusMessage& reply) const;
    struct Getters;

    const Context& context_;
    Record record_;
    const Requests& requests_;
    std::string id_;
    std::string path_;
    std::string service_;
    std::string socket_unit_;
    std::string socket_;
    ShareState state_ = ShareState::Starting;
    bool published_ = false;

    // Life.
    Source source_;
    Done started_; // of start() and adopt()
    bool ending_daemon_ = false;
    UnitState end_;
    std::string invocation_; // of the unit, by the daemon that runs or ran last
    bool protocol_error_logged_ = false;
    bool goodbye_logged_ = false;
    Microseconds error_logged_at_ = 0; // 0: never
    std::string last_error_;
    std::deque<Microseconds> restarts_; // within the interval
    std::string removal_result_;
    std::vector<Done> removals_;
    std::unique_ptr<ShareBringUp> bring_up_;
    std::unique_ptr<ShareTeardown> teardown_;
    SystemdHandle finding_;
    SystemdHandle service_watch_;
    SystemdHandle vm_watch_;
    SystemdHandle stopping_;
    EventSource timer_;

    // Budget.
    pid_t main_pid_ = 0;
    pid_t worker_pid_ = 0;
    std::uint64_t effective_limit_ = 0;
    bool degraded_ = false;
    std::optional<std::uint64_t> used_;
    std::optional<std::uint64_t> rss_;
    Microseconds poll_cost_ = 0;    // of a CPU
    unsigned uncounted_ = 0;        // failures to count in a row
    unsigned vanished_ = 0;         // looks in a row that found no such process
    Microseconds exhausted_at_ = 0; // when it was told last
    Level descriptor_level_ = Level::Normal;
    Level memory_level_ = Level::Normal;
    std::deque<Sample> samples_;
    Microseconds caches_dropped_ = 0;
    EventSource poll_;
    SystemdHandle hook_;
};

} // namespace thaw::sharesd
