// SPDX-License-Identifier: MIT
#pragma once

// Who may touch which blocks at the same time.
//
// RangeLocks: readers of a range exclude writers of any part of it. Locks are shared by ranges far
// apart; they are always taken in ascending order, so two requests never wait for each other.
// Gate: every change of the map passes it; closing it waits for the changes under way and holds new
// ones back. A waiting close goes before new passers, however many there are.

#include "overlay/geometry.hpp"

#include <pthread.h>

#include <array>
#include <shared_mutex>

namespace thaw::rootfs {

class RangeLocks {
public:
    static constexpr std::uint64_t kGroupBlocks = 64; // 256 KiB
    static constexpr std::uint64_t kLocks = 128;

    enum class Mode { Shared, Exclusive };
    class Guard {
    public:
        // `count` > 0. Holds the range until destroyed.
        Guard(RangeLocks& locks, std::uint64_t block, std::uint64_t count, Mode mode);
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;
        ~Guard();

    private:
        template <class Action>
        void each(Action action);
        RangeLocks& locks_;
        std::uint64_t first_; // group
        std::uint64_t count_; // groups, at most kLocks
        Mode mode_;
    };

private:
    std::array<std::shared_mutex, kLocks> locks_;
};

class Gate {
public:
    Gate();
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;
    ~Gate();

    // For std::shared_lock (passing) and std::unique_lock (closing).
    void lock_shared();
    void unlock_shared();
    void lock();
    void unlock();

private:
    // Not std::shared_mutex: that lets a stream of passers starve whoever wants to close it.
    pthread_rwlock_t lock_{};
};

} // namespace thaw::rootfs
