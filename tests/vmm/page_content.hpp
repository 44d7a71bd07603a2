// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

/// What bytes are in a page: the made-up image, and what the guest writes. Everything is a pure
/// function of its arguments, so a checker can always say what a page must hold.
namespace thaw::standin {

/// Content is decided and checked in pages of this size, whatever the page size of the mapping.
inline constexpr std::size_t small_page = 4096;

std::uint64_t mix64(std::uint64_t value);

/// Small fast generator (xorshift-multiply); the sequence depends on the seed alone.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(mix64(seed) | 1) {}
    std::uint64_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return state_ * 0x2545F4914F6CDD1DULL;
    }
    std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }

private:
    std::uint64_t state_;
};

/// The image: zero pages come in runs, the rest is random, text-like or sparse pages.
struct ImageRecipe {
    std::uint64_t seed = 1;
    unsigned zero_percent = 25;

    bool is_zero(std::uint64_t page) const;
    void fill(std::uint64_t page, std::uint8_t* out) const;
};

/// The guest's own writes. One page in four is always written whole, the others get a stamp of
/// 64 bytes on top of what is there, so that a lost read-modify-write shows.
bool guest_writes_whole_page(std::uint64_t page);
std::size_t guest_stamp_offset(std::uint64_t page);
inline constexpr std::size_t guest_stamp_size = 64;
/// Writes (into guest RAM or into a page that is being predicted) what write number `generation`
/// of this page leaves behind. generation >= 1.
void apply_guest_write(std::uint64_t page, std::uint32_t generation, std::uint8_t* out);

/// What the KVM guest writes: one 64-bit word near the end of the page, beyond every stamp.
inline constexpr std::size_t kvm_word_offset = 4088;
std::uint64_t kvm_word(std::uint64_t guest_address, std::uint64_t key);
std::uint64_t kvm_key(std::uint32_t pass);

bool is_zero_page(const std::uint8_t* page);
/// 64-bit digest of one page; not cryptographic.
std::uint64_t page_digest(const std::uint8_t* page);
/// Order-dependent combination of page digests.
std::uint64_t combine_digest(std::uint64_t so_far, std::uint64_t next);

} // namespace thaw::standin
