// SPDX-License-Identifier: MIT
#include "page_ledger.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace thaw::standin {

Result<std::shared_ptr<Reference>>
Reference::from_file(const std::string& path, std::uint64_t size) {
    Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info{};
    if (!file || ::fstat(file.get(), &info) != 0) {
        return fail(path + ": " + os_error(errno));
    }
    if (static_cast<std::uint64_t>(info.st_size) < size) {
        return fail(path + ": shorter than guest RAM");
    }
    void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapping == MAP_FAILED) {
        return fail(path + ": " + os_error(errno));
    }
    auto reference = std::make_shared<Reference>();
    reference->mapping_ = static_cast<const std::uint8_t*>(mapping);
    reference->size_ = size;
    return reference;
}

std::shared_ptr<Reference> Reference::from_recipe(const ImageRecipe& recipe) {
    auto reference = std::make_shared<Reference>();
    reference->recipe_ = recipe;
    return reference;
}

Reference::~Reference() {
    if (mapping_ != nullptr) {
        ::munmap(const_cast<std::uint8_t*>(mapping_), size_);
    }
}

void Reference::page(std::uint64_t number, std::uint8_t* out) const {
    if (mapping_ != nullptr) {
        std::memcpy(out, mapping_ + number * small_page, small_page);
    } else {
        recipe_.fill(number, out);
    }
}

void PageLedger::dropped(std::uint64_t page) {
    states_[page].store(zero_base, std::memory_order_relaxed);
    kvm_passes_[page].store(0, std::memory_order_relaxed);
}

std::uint32_t PageLedger::next_write(std::uint64_t page) {
    const std::uint32_t old = states_[page].load(std::memory_order_relaxed);
    const std::uint32_t generation = (old & generation_mask) + 1;
    states_[page].store((old & ~generation_mask) | generation, std::memory_order_relaxed);
    if (guest_writes_whole_page(page)) {
        kvm_passes_[page].store(0, std::memory_order_relaxed);
    }
    return generation;
}

void PageLedger::kvm_written(std::uint64_t page, std::uint32_t pass) {
    kvm_passes_[page].store(pass, std::memory_order_relaxed);
}

bool PageLedger::mark_touched(std::uint64_t page) {
    return (states_[page].fetch_or(touched, std::memory_order_relaxed) & touched) == 0;
}

bool PageLedger::base_is_zero(std::uint64_t page) const {
    return (states_[page].load(std::memory_order_relaxed) & zero_base) != 0;
}

bool PageLedger::guest_wrote(std::uint64_t page) const {
    return (states_[page].load(std::memory_order_relaxed) & generation_mask) != 0 ||
           kvm_passes_[page].load(std::memory_order_relaxed) != 0;
}

void PageLedger::expect(
    const Reference& image, const GuestMemory& memory, std::uint64_t page, std::uint8_t* out
) const {
    const std::uint32_t state = states_[page].load(std::memory_order_relaxed);
    const std::uint32_t pass = kvm_passes_[page].load(std::memory_order_relaxed);
    if ((state & zero_base) != 0) {
        std::memset(out, 0, small_page);
    } else {
        image.page(page, out);
    }
    if ((state & generation_mask) != 0) {
        apply_guest_write(page, state & generation_mask, out);
    }
    if (pass != 0) {
        const std::uint64_t word = kvm_word(memory.guest_address(page), kvm_key(pass));
        std::memcpy(out + kvm_word_offset, &word, sizeof(word));
    }
}

const char* verdict_name(Verdict verdict) {
    switch (verdict) {
    case Verdict::equal:
        return "equal";
    case Verdict::wrong:
        return "wrong";
    case Verdict::resurrected:
        return "resurrected";
    case Verdict::unexpected_zero:
        return "unexpected_zero";
    case Verdict::lost_write:
        return "lost_write";
    }
    return "wrong";
}

Verdict judge(
    const Reference& image, const GuestMemory& memory, const PageLedger& ledger, std::uint64_t page,
    const std::uint8_t* actual
) {
    std::uint8_t wanted[small_page];
    ledger.expect(image, memory, page, wanted);
    if (std::memcmp(wanted, actual, small_page) == 0) {
        return Verdict::equal;
    }
    if (is_zero_page(actual)) {
        return Verdict::unexpected_zero;
    }
    image.page(page, wanted);
    if (std::memcmp(wanted, actual, small_page) == 0) {
        return ledger.base_is_zero(page) ? Verdict::resurrected : Verdict::lost_write;
    }
    return Verdict::wrong;
}

} // namespace thaw::standin
