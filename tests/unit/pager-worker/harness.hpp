// SPDX-License-Identifier: MIT
#pragma once

// The two neighbours of a worker, played by the test: a guest (this very process, its memory under
// a real userfaultfd) and a broker (a socket pair, Start, replacement after a death).

#include "core/fd.hpp"
#include "protocol/session_memory.hpp"
#include "protocol/worker_control.hpp"

#include <gtest/gtest.h>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace thaw::test {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kHuge = 2 << 20;

// Polls until `condition` holds; false after `limit`.
bool eventually(
    const std::function<bool()>& condition,
    std::chrono::milliseconds limit = std::chrono::seconds(10)
);

// A memory file with a pattern that names each page, zero pages in runs, and its memory.map.
class TestImage {
public:
    // In memory, or in unnamed files of `folder`.
    explicit TestImage(std::uint64_t size, const char* folder = nullptr);
    // Drops what the page cache has of the files: the next reads wait for the disk.
    void cool() const;

    std::uint64_t size() const { return size_; }
    std::uint64_t pages() const { return size_ / kPage; }
    int memory() const { return memory_.get(); }
    int map() const { return map_.get(); }
    const std::array<std::uint8_t, 16>& id() const { return id_; }
    // Pages 16..23 of every 64 are zero in the image.
    static bool is_zero(std::uint64_t page) { return page % 64 / 8 == 2; }
    static std::uint64_t word(std::uint64_t page, std::size_t index);
    // Whether `bytes` (4 KiB) are what the image has at `page`.
    static bool matches(const void* bytes, std::uint64_t page);
    // A working-set file of these pages (4 KiB indices) in this order, packed as `record` does.
    Fd working_set(const std::vector<std::uint32_t>& pages, std::uint32_t page_size = kPage) const;
    // Makes a difference to `bases` images of it: the pages are dealt out to as many files more,
    // and where a file has no page it holds nonsense.
    void lay_over(unsigned bases);
    int layers() const { return layers_.get(); }
    const std::vector<Fd>& bases() const { return bases_; }
    unsigned layer_of(std::uint64_t page) const {
        return bases_.empty() ? 0 : static_cast<unsigned>(page / 3 % (bases_.size() + 1));
    }
    // Flips a byte of the page in the memory file; again to put it right.
    void flip(std::uint64_t page) const;
    void truncate(std::uint64_t size) const;
    void restore_end() const; // after truncate(): whole again

private:
    std::uint64_t size_;
    const char* folder_;
    std::array<std::uint8_t, 16> id_{};
    int file_of(std::uint64_t page) const {
        return layer_of(page) == 0 ? memory_.get() : bases_[layer_of(page) - 1].get();
    }
    Fd memory_;
    Fd map_;
    Fd layers_;
    std::vector<Fd> bases_;
};

// Guest memory as a VMM makes it: anonymous or hugetlb, MISSING, EVENT_REMOVE. One or two regions.
class Guest {
public:
    struct Layout {
        std::uint64_t size = 0;
        std::uint64_t page_size = kPage;
        std::uint64_t split = 0; // file offset where a second region begins; 0: one region
        bool huge = false;
    };
    explicit Guest(const Layout& layout);
    ~Guest();
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;

    int uffd() const { return uffd_.get(); }
    const std::vector<protocol::Region>& regions() const { return regions_; }
    // Where a page of the memory file is in the guest.
    volatile std::uint64_t* at(std::uint64_t page) const;
    void* address(std::uint64_t page) const;
    void remove(std::uint64_t first_page, std::uint64_t count) const;
    bool is_zero(std::uint64_t page) const;
    void unregister() const;

private:
    Layout layout_;
    Fd uffd_;
    std::vector<protocol::Region> regions_;
};

struct BrokerOptions {
    std::string engine = "epoll";
    protocol::LossPolicy policy = protocol::LossPolicy::Stop;
    std::uint32_t flags = 0;
    std::string control_path = "/nonexistent/thaw-test";
    bool with_map = true;
    Fd vmm_pidfd;   // this process when empty
    Fd working_set; // none when empty
    Fd memory;      // another way to the image's bytes than its own descriptor; same for map
    Fd map;
    std::string pressure_directory;
    bool track = false;      // from the first fault on
    Fd layers;               // in place of the image's own
    Fd chunk_map;            // of a remote image: `memory` is its cache
    unsigned drop_bases = 0; // so many are not handed over
};

// One worker process.
class WorkerProcess {
public:
    WorkerProcess(pid_t pid, Fd pidfd, Fd channel);
    ~WorkerProcess(); // kills
    WorkerProcess(WorkerProcess&& other) noexcept;
    WorkerProcess& operator=(WorkerProcess&& other) noexcept;

    pid_t pid() const { return pid_; }
    int channel() const { return channel_.get(); }
    void close_channel() { channel_.reset(); }
    void signal(int number) const;
    // SIGKILL, then waits until the process is proven dead.
    void kill();
    // Exit code, or -signal; nullopt after `limit`.
    std::optional<int> wait(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // The next message; ETIMEDOUT after `limit`.
    Result<protocol::ControlMessage>
    receive(std::chrono::milliseconds limit = std::chrono::seconds(10)) const;
    // The next message of that type; others are dropped.
    Result<protocol::ControlMessage> receive(
        protocol::ControlType type, std::chrono::milliseconds limit = std::chrono::seconds(10)
    ) const;

private:
    pid_t pid_;
    Fd pidfd_;
    Fd channel_;
    std::optional<int> status_;
};

// Holds the session as a broker does, without ever reading the userfaultfd.
class Broker {
public:
    Broker(const TestImage& image, const Guest& guest, BrokerOptions options = {});

    protocol::SessionMemory& memory() { return memory_; }
    protocol::SessionState& state() { return memory_.state(); }
    protocol::SessionCounters& counters() { return memory_.counters(); }
    // Starts a worker and says Start; does not wait.
    WorkerProcess start();
    // Starts one and waits for Ready.
    WorkerProcess start_ready();
    bool is_ready(const WorkerProcess& worker) const;
    // Says that SessionControl has changed.
    static void attend(const WorkerProcess& worker);

private:
    const TestImage& image_;
    const Guest& guest_;
    BrokerOptions options_;
    protocol::SessionMemory memory_;
};

// Ends the process with a message when the test has not finished in time: a guest that hangs in a
// fault cannot be joined.
class HangGuard {
public:
    explicit HangGuard(unsigned seconds);
    ~HangGuard();
};

} // namespace thaw::test
