// SPDX-License-Identifier: MIT
#pragma once

#include "guest_memory.hpp"
#include "result.hpp"

#include <cstdint>
#include <memory>

namespace thaw::standin {

/// A small real guest: one vCPU in 64-bit long mode, ring 0, no interrupts, identity paging. Its
/// page tables, code and mailbox lie in a memory slot of their own inside the 32-bit device hole,
/// so guest RAM changes only by the guest's own writes. It takes one command at a time from the
/// mailbox and answers through an `out` instruction.
/// create() and walk() must be called from one thread.
class KvmGuest {
public:
    static Result<std::unique_ptr<KvmGuest>> create(const GuestMemory& memory);
    ~KvmGuest();
    KvmGuest(const KvmGuest&) = delete;
    KvmGuest& operator=(const KvmGuest&) = delete;

    /// The guest reads the first 64-bit word of each small page of [from, to) (guest addresses) and
    /// answers their sum; with a key it also writes `address ^ key` at kvm_word_offset.
    Result<std::uint64_t> walk(std::uint64_t from, std::uint64_t to, std::uint64_t key);

private:
    KvmGuest() = default;
    Result<void> add_slots(const GuestMemory& memory);
    void write_tables(std::uint64_t highest);
    Result<void> start_vcpu(int kvm);

    Fd machine_;
    Fd vcpu_;
    std::uint8_t* own_ = nullptr;
    void* run_ = nullptr;
    std::size_t run_size_ = 0;
};

} // namespace thaw::standin
