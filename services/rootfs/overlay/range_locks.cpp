// SPDX-License-Identifier: MIT
#include "overlay/range_locks.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace thaw::rootfs {

RangeLocks::Guard::Guard(RangeLocks& locks, std::uint64_t block, std::uint64_t count, Mode mode)
    : locks_(locks), first_(block / kGroupBlocks),
      count_(std::min(kLocks, (block + count - 1) / kGroupBlocks - first_ + 1)), mode_(mode) {
    each([this](std::shared_mutex& lock) {
        if (mode_ == Mode::Shared)
            lock.lock_shared();
        else
            lock.lock();
    });
}

RangeLocks::Guard::~Guard() {
    each([this](std::shared_mutex& lock) {
        if (mode_ == Mode::Shared)
            lock.unlock_shared();
        else
            lock.unlock();
    });
}

template <class Action>
void RangeLocks::Guard::each(Action action) {
    const std::uint64_t begin = first_ % kLocks;
    const std::uint64_t end = begin + count_;
    // A range that wraps around takes the low locks first: ascending, as everybody does.
    for (std::uint64_t i = kLocks; i < end; ++i)
        action(locks_.locks_[i - kLocks]);
    for (std::uint64_t i = begin; i < std::min(end, kLocks); ++i)
        action(locks_.locks_[i]);
}

Gate::Gate() {
    pthread_rwlockattr_t attributes;
    THAW_INVARIANT(::pthread_rwlockattr_init(&attributes) == 0);
    ::pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    THAW_INVARIANT(::pthread_rwlock_init(&lock_, &attributes) == 0);
    ::pthread_rwlockattr_destroy(&attributes);
}

Gate::~Gate() {
    ::pthread_rwlock_destroy(&lock_);
}

void Gate::lock_shared() {
    THAW_INVARIANT(::pthread_rwlock_rdlock(&lock_) == 0);
}
void Gate::unlock_shared() {
    THAW_INVARIANT(::pthread_rwlock_unlock(&lock_) == 0);
}
void Gate::lock() {
    THAW_INVARIANT(::pthread_rwlock_wrlock(&lock_) == 0);
}
void Gate::unlock() {
    THAW_INVARIANT(::pthread_rwlock_unlock(&lock_) == 0);
}

} // namespace thaw::rootfs
