// SPDX-License-Identifier: MIT
#include "page_content.hpp"

#include <array>
#include <cstring>
#include <string_view>

namespace thaw::standin {
namespace {

// Zero pages come in runs of this many pages, as freed memory of a real guest does.
constexpr std::uint64_t zero_run_pages = 16;

constexpr std::array<std::string_view, 16> words = {
    "kernel ", "page ",    "socket ", "the ",  "restored ", "memory ", "of ",     "thaw\n",
    "inode ",  "request ", "journal", " and ", "snapshot ", "0x7f3a ", "frozen ", "{\"id\": 42}\n"
};

void fill_random(Random& random, std::uint8_t* out, std::size_t size) {
    for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
        const std::uint64_t word = random.next();
        std::memcpy(out + at, &word, sizeof(word));
    }
}

void fill_text(Random& random, std::uint8_t* out) {
    std::size_t at = 0;
    while (at < small_page) {
        std::uint64_t bits = random.next();
        for (int i = 0; i < 16 && at < small_page; ++i, bits >>= 4) {
            const std::string_view word = words[bits & 15];
            const std::size_t size = word.size() < small_page - at ? word.size() : small_page - at;
            std::memcpy(out + at, word.data(), size);
            at += size;
        }
    }
}

} // namespace

std::uint64_t mix64(std::uint64_t value) {
    value += 0x9E3779B97F4A7C15ULL;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
    return value ^ (value >> 31);
}

bool ImageRecipe::is_zero(std::uint64_t page) const {
    return mix64(seed ^ mix64(page / zero_run_pages)) % 100 < zero_percent;
}

void ImageRecipe::fill(std::uint64_t page, std::uint8_t* out) const {
    if (is_zero(page)) {
        std::memset(out, 0, small_page);
        return;
    }
    Random random(seed * 0x100000001B3ULL ^ page);
    switch (random.below(4)) {
    case 0:
        fill_text(random, out);
        break;
    case 1: // mostly zero, as page tables and young heaps are
        std::memset(out, 0, small_page);
        fill_random(random, out + random.below(48) * 64, 256);
        break;
    default:
        fill_random(random, out, small_page);
        break;
    }
    // No image page may equal another one or be all zero: a page served from the wrong place must
    // always show.
    std::memcpy(out, &page, sizeof(page));
    const std::uint64_t check = mix64(seed ^ page) | 1;
    std::memcpy(out + sizeof(page), &check, sizeof(check));
}

bool guest_writes_whole_page(std::uint64_t page) {
    return mix64(page ^ 0x77686F6C65ULL) % 4 == 0;
}

std::size_t guest_stamp_offset(std::uint64_t page) {
    return mix64(page ^ 0x7374616D70ULL) % 63 * guest_stamp_size;
}

void apply_guest_write(std::uint64_t page, std::uint32_t generation, std::uint8_t* out) {
    Random random(mix64(page) ^ generation);
    if (guest_writes_whole_page(page)) {
        fill_random(random, out, small_page);
    } else {
        fill_random(random, out + guest_stamp_offset(page), guest_stamp_size);
    }
}

std::uint64_t kvm_word(std::uint64_t guest_address, std::uint64_t key) {
    return guest_address ^ key;
}

std::uint64_t kvm_key(std::uint32_t pass) {
    return mix64(0x6B766DULL + pass) | 1;
}

bool is_zero_page(const std::uint8_t* page) {
    static const std::array<std::uint8_t, small_page> zeros{};
    return std::memcmp(page, zeros.data(), small_page) == 0;
}

std::uint64_t page_digest(const std::uint8_t* page) {
    std::uint64_t lane[4] = {1, 2, 3, 4};
    for (std::size_t at = 0; at < small_page; at += sizeof(lane)) {
        std::uint64_t word[4];
        std::memcpy(word, page + at, sizeof(word));
        for (int i = 0; i < 4; ++i) {
            lane[i] = (lane[i] ^ word[i]) * 0x9FB21C651E98DF25ULL;
            lane[i] ^= lane[i] >> 29;
        }
    }
    return mix64(lane[0] ^ mix64(lane[1] ^ mix64(lane[2] ^ mix64(lane[3]))));
}

std::uint64_t combine_digest(std::uint64_t so_far, std::uint64_t next) {
    return mix64(so_far * 31 ^ next);
}

} // namespace thaw::standin
