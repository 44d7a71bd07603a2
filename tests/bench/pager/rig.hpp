// SPDX-License-Identifier: MIT
#pragma once

// What every measurement needs: an image in a file, a guest (this process's own memory under a
// userfaultfd), a worker or the kernel's floor that serves it. Everything that fails ends the
// program with a message: a figure from a half-working set-up would be a lie.

#include "core/fd.hpp"
#include "image/memory_map.hpp"
#include "protocol/session_memory.hpp"
#include "protocol/worker_control.hpp"

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace thaw::bench {

inline constexpr std::uint64_t kPage = 4096;

std::uint64_t now_ns();
[[noreturn]] void give_up(const std::string& what);
template <class T>
T must(Result<T> result, const char* what) {
    if (!result) give_up(std::string(what) + ": " + result.error().message());
    return std::move(*result);
}
inline void must(Result<> result, const char* what) {
    if (!result) give_up(std::string(what) + ": " + result.error().message());
}
double median(std::vector<double> values);
// `share` of 0.5 is the median. Sorts.
double percentile(std::vector<std::uint64_t>& values, double share);
// Context switches of a process so far, those it asked for and those it did not.
std::uint64_t switches(pid_t pid);
// The numbers behind all that begins with `key` in what the kernel writes as "key: number".
std::uint64_t sum_of(const std::string& text, std::string_view key);
// The calling thread, or `pid`, runs on one CPU only; -1: on all.
void pin(int cpu, pid_t pid = 0);

// Memory file, memory.map and, on demand, a working set, all in `folder`.
class Image {
public:
    // `is_zero` says which pages are zero; the others name themselves.
    Image(
        std::string folder, std::uint64_t size, const std::function<bool(std::uint64_t)>& is_zero
    );
    Image(const Image&) = delete;
    Image& operator=(const Image&) = delete;
    ~Image();

    std::uint64_t size() const { return size_; }
    std::uint64_t pages() const { return size_ / kPage; }
    const std::string& folder() const { return folder_; }
    int memory() const { return memory_.get(); }
    int map() const { return map_.get(); }
    void pack(const std::vector<std::uint32_t>& pages);
    // A descriptor of its own: O_DIRECT belongs to the open file.
    Fd working_set() const;
    // Opens the files again, from a folder that has the same (a mount that came after).
    void open_from(const std::string& folder);
    static std::uint64_t first_word(std::uint64_t page) { return page * 2 + 1; }
    std::array<std::uint8_t, 16> id{1, 2, 3};

private:
    std::string folder_;
    std::string source_;
    std::uint64_t size_;
    Fd memory_;
    Fd map_;
};

class Guest {
public:
    explicit Guest(std::uint64_t size);
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;
    ~Guest();
    int uffd() const { return uffd_.get(); }
    std::byte* base() const { return base_; }
    std::uint64_t size() const { return size_; }
    volatile std::uint64_t* at(std::uint64_t page) const {
        return reinterpret_cast<volatile std::uint64_t*>(base_ + page * kPage);
    }

private:
    std::uint64_t size_;
    std::byte* base_ = nullptr;
    Fd uffd_;
};

// A child of ours that serves until stop().
class Server {
public:
    Server() = default;
    Server(Server&& other) noexcept;
    Server& operator=(Server&&) = delete;
    ~Server() { stop(); }
    void stop();
    pid_t pid() const { return pid_; }

protected:
    pid_t pid_ = -1;
};

// The least that anybody could do: blocking read, UFFDIO_COPY from a mapping of the memory file.
class Floor : public Server {
public:
    Floor(const Image& image, const Guest& guest);
};

struct WorkerSetup {
    std::string engine = "io_uring";
    bool checked = true;
    bool replay = false;
};
class Worker : public Server {
public:
    Worker(const Image& image, const Guest& guest, const WorkerSetup& setup);
    protocol::SessionMemory& memory() { return *memory_; }
    // Waits for a message of that type.
    void wait_for(protocol::ControlType type);
    void attend() const;
    // Kills the process and puts another in its place, which is serving when this returns.
    void replace();

private:
    void start();

    const Image& image_;
    const Guest& guest_;
    WorkerSetup setup_;
    std::unique_ptr<protocol::SessionMemory> memory_;
    Fd working_set_;
    Fd pidfd_;
    Fd channel_;
};

} // namespace thaw::bench
