// SPDX-License-Identifier: MIT
#pragma once

// A VMM of its own process, so that guests do not share an address space: connects to a pager's
// socket as Firecracker does, then touches its memory and writes down how long each touch took.

#include "rig.hpp"

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace thaw::bench {

class GuestProcess {
public:
    enum class Work {
        None,
        Touch,   // missing pages in no order, one thread, each one timed
        Faults,  // the same as fast as it goes, by all threads, and all over again
        Removes, // gives pages back and touches them, as fast as it goes
        Spin,    // no memory at all
    };
    struct Setup {
        std::string socket; // empty: no pager
        std::uint64_t size = 0;
        Work work = Work::None;
        unsigned threads = 1;
        unsigned pause_us = 100; // between two touches of Touch
        // What Touch touches, in this order; empty: all pages.
        std::vector<std::uint32_t> pages{};
    };
    explicit GuestProcess(const Setup& setup);
    GuestProcess(const GuestProcess&) = delete;
    GuestProcess& operator=(const GuestProcess&) = delete;
    ~GuestProcess(); // kills

    pid_t pid() const { return pid_; }
    // Sends the regions and touches its first page; is_serving() once it has that.
    void connect();
    bool is_serving();
    void work(bool on);
    // The touches since the last call, in ns; at most as many as the memory has pages.
    std::vector<std::uint64_t> take();

private:
    struct Shared;
    [[noreturn]] static void run(const Setup& setup, Shared& shared, int channel);
    static void touch(const Setup& setup, const Guest& guest, Shared& shared);
    static void storm(const Setup& setup, const Guest& guest, Shared& shared, unsigned part);

    pid_t pid_ = -1;
    Fd channel_;
    Shared* shared_ = nullptr;
    std::size_t shared_size_ = 0;
    std::uint64_t taken_ = 0;
    bool serving_ = false;
};

} // namespace thaw::bench
