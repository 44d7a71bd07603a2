// SPDX-License-Identifier: MIT
#pragma once

#include "guest_memory.hpp"
#include "page_content.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace thaw::standin {

/// The bytes the image holds: a memory file, or the recipe it was made by.
class Reference {
public:
    static Result<std::shared_ptr<Reference>>
    from_file(const std::string& path, std::uint64_t size);
    static std::shared_ptr<Reference> from_recipe(const ImageRecipe& recipe);
    Reference() = default;
    Reference(const Reference&) = delete;
    Reference& operator=(const Reference&) = delete;
    ~Reference();

    void page(std::uint64_t number, std::uint8_t* out) const;

private:
    const std::uint8_t* mapping_ = nullptr;
    std::uint64_t size_ = 0;
    ImageRecipe recipe_;
};

/// What every page of guest RAM must hold now. One thread owns a page at a time (vCPUs have
/// disjoint slices, checks run while the guest is paused), so the answer is exact.
class PageLedger {
public:
    explicit PageLedger(std::uint64_t pages) : states_(pages), kvm_passes_(pages) {}

    void dropped(std::uint64_t page);
    /// Returns the number of this write, to be handed to apply_guest_write().
    std::uint32_t next_write(std::uint64_t page);
    void kvm_written(std::uint64_t page, std::uint32_t pass);
    /// True the first time after the start or after a drop; asked per page of the mapping.
    bool mark_touched(std::uint64_t page);

    bool base_is_zero(std::uint64_t page) const;
    bool guest_wrote(std::uint64_t page) const;
    /// Builds the expected page.
    void expect(
        const Reference& image, const GuestMemory& memory, std::uint64_t page, std::uint8_t* out
    ) const;
    std::uint64_t size() const { return states_.size(); }

private:
    static constexpr std::uint32_t zero_base = 1U << 31;
    static constexpr std::uint32_t touched = 1U << 30;
    static constexpr std::uint32_t generation_mask = touched - 1;

    std::vector<std::atomic<std::uint32_t>> states_;
    std::vector<std::atomic<std::uint32_t>> kvm_passes_;
};

/// Why a page is not what it must be.
enum class Verdict {
    equal,
    wrong,
    resurrected,     ///< given back by the guest, holds the image's page again
    unexpected_zero, ///< must hold data and is all zero
    lost_write,      ///< holds the image's page without what the guest wrote
};
const char* verdict_name(Verdict verdict);

Verdict judge(
    const Reference& image, const GuestMemory& memory, const PageLedger& ledger, std::uint64_t page,
    const std::uint8_t* actual
);

} // namespace thaw::standin
