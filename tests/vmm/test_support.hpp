// SPDX-License-Identifier: MIT
#pragma once

#include "result.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

/// What the stand-in's own tests need: the program as a child process, a client for its API, and
/// a small pager written after the documented example handler.
namespace thaw::standin::test {

using nlohmann::json;

/// A directory of its own, removed at the end. The stand-in runs in it.
class WorkDirectory {
public:
    WorkDirectory();
    ~WorkDirectory();
    WorkDirectory(const WorkDirectory&) = delete;
    WorkDirectory& operator=(const WorkDirectory&) = delete;
    std::string path(const std::string& name) const { return path_ + "/" + name; }
    const std::string& root() const { return path_; }

private:
    std::string path_;
};

struct Reply {
    int status = 0; ///< 0: the connection ended without an answer, or nothing came in time
    std::string raw_head{};
    json body{};
};

class StandinProcess {
public:
    /// Starts the program in the directory with this profile; `wait_for_api` waits for the socket.
    StandinProcess(
        const WorkDirectory& directory, const json& profile, bool wait_for_api = true,
        const std::string& socket = "api.sock"
    );
    ~StandinProcess();
    StandinProcess(const StandinProcess&) = delete;
    StandinProcess& operator=(const StandinProcess&) = delete;

    Reply call(
        const std::string& method, const std::string& path, const json& body = json(),
        int timeout_seconds = 20
    ) const;
    Reply load(
        bool resume = false, const std::string& backend = "Uffd",
        const std::string& target = "uffd.sock", int timeout_seconds = 20
    ) const;
    json report() const { return call("GET", "/standin/report").body; }
    /// Waits for the end; the wait status, or nothing after the time.
    std::optional<int> wait(int timeout_ms = 10'000);
    pid_t pid() const { return pid_; }

private:
    std::string socket_;
    pid_t pid_ = -1;
};

/// Raw exchange on one connection: sends the text, answers what came until `stop_after` replies.
Reply exchange(int socket, const std::string& request);
Fd connect_unix(const std::string& path, int timeout_seconds);
std::string format_request(const std::string& method, const std::string& path, const json& body);

/// What a VMM sent.
struct Handshake {
    Fd connection;
    std::string text;
    std::vector<Fd> descriptors;
    bool eof = false; ///< the VMM closed before or after the text
    bool overflow = false;
    json body() const { return json::parse(text, nullptr, false); }
};

Fd listen_unix(const std::string& path);
/// Accepts and reads until the array is closed, the end, 1 MiB, or the time is over.
std::optional<Handshake> receive_handshake(int listener, int timeout_ms);

/// Serves missing pages one by one from a memory file and removed pages with zeros, as the example
/// handler does, in a thread of its own.
class SmallPager {
public:
    struct Faults {
        std::int64_t wrong_page = -1;  ///< gets the bytes of the page after it
        bool refill_removed = false;   ///< answers removed pages from the image
        std::int64_t silent_page = -1; ///< never answered
    };
    SmallPager(const std::string& socket_path, const std::string& memory_path, Faults faults);
    ~SmallPager();
    SmallPager(const SmallPager&) = delete;
    SmallPager& operator=(const SmallPager&) = delete;

    std::uint64_t served() const { return served_.load(); }
    std::uint64_t removed() const { return removed_pages_.load(); }

private:
    struct Region {
        std::uint64_t base, size, offset;
    };
    void run();
    bool adopt(const Handshake& handshake);
    void read_messages();
    void serve_pending();
    bool serve(std::uint64_t address);

    Fd listener_, stop_, uffd_;
    std::string memory_path_;
    Faults faults_;
    std::vector<Region> regions_;
    std::uint64_t page_size_ = 4096;
    const std::uint8_t* memory_ = nullptr;
    std::uint64_t memory_size_ = 0;
    std::vector<bool> removed_;
    std::vector<std::uint64_t> pending_;
    std::atomic<std::uint64_t> served_{0}, removed_pages_{0};
    std::thread thread_;
};

/// A snapshot in DIR/{vmstate,memory}.
void make_image(
    const WorkDirectory& directory, const std::vector<std::string>& options = {},
    unsigned memory_mib = 16
);
int run_program(const std::vector<std::string>& arguments);
/// Waits until the predicate holds; false after ten seconds.
bool eventually(const std::function<bool()>& predicate);

} // namespace thaw::standin::test
