// SPDX-License-Identifier: MIT
#include "demand_reads.hpp"

#include "clock.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace thaw::worker {

using protocol::FailureReason;

namespace {

constexpr std::size_t kSlots = 32;
constexpr std::size_t kHugeSlots = 4;
constexpr std::size_t kListRoom = 8192;
static_assert(kListRoom >= image::MapReader::kLargestList);

SourceError error_of(std::int64_t result) {
    if (result == 0) return {FailureReason::SourceTruncated, ENODATA};
    // A remote image's: the broker has checked what came.
    if (result == -EBADMSG) return {FailureReason::Checksum, EBADMSG};
    return {FailureReason::SourceRead, static_cast<int>(-result)};
}

} // namespace

Result<DemandReads> DemandReads::create(std::uint64_t largest_page) {
    DemandReads reads;
    reads.page_size_ = largest_page;
    reads.slots_.resize(largest_page == protocol::kBitPage ? kSlots : kHugeSlots);
    const std::size_t size = reads.slots_.size() * (largest_page + kListRoom);
    void* base = ::mmap(
        nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    );
    if (base == MAP_FAILED) return fail_errno(errno, "map buffers for reads");
    reads.memory_ = static_cast<std::byte*>(base);
    return reads;
}

DemandReads::DemandReads(DemandReads&& other) noexcept
    : source_(other.source_), reader_(std::move(other.reader_)), page_size_(other.page_size_),
      memory_(std::exchange(other.memory_, nullptr)), slots_(std::move(other.slots_)) {}

DemandReads::~DemandReads() {
    if (memory_ != nullptr) ::munmap(memory_, slots_.size() * (page_size_ + kListRoom));
}

std::span<std::byte> DemandReads::page_of(std::size_t index) const {
    return {memory_ + index * (page_size_ + kListRoom), slots_[index].fault.page.page_size};
}

std::span<std::byte> DemandReads::list_of(std::size_t index) const {
    return {memory_ + index * (page_size_ + kListRoom) + page_size_, slots_[index].list.size};
}

void DemandReads::add(const Fault& fault) {
    const auto same = [&](const Fault& other) { return other.page.address == fault.page.address; };
    const bool known =
        std::ranges::any_of(slots_, [&](const Slot& s) { return s.used && same(s.fault); }) ||
        std::ranges::any_of(waiting_, same);
    if (known) return;
    const auto free = std::ranges::find(slots_, false, &Slot::used);
    if (free == slots_.end())
        waiting_.push_back(fault);
    else
        start(static_cast<std::size_t>(free - slots_.begin()), fault);
}

void DemandReads::start(std::size_t index, const Fault& fault) {
    slots_[index] = {.used = true, .fault = fault};
    ++active_;
    request_page(index);
}

void DemandReads::request(
    std::size_t index, int fd, std::uint64_t offset, std::span<std::byte> target
) {
    const auto begun = reader_({.token = index, .fd = fd, .offset = offset, .target = target});
    if (!begun) broken_.emplace_back(index, SourceError{FailureReason::SourceRead, EBUSY});
}

// What is missing of the page, or as much of it as one file has.
void DemandReads::request_page(std::size_t index) {
    const Slot& slot = slots_[index];
    const std::uint64_t offset = slot.fault.page.offset + slot.filled;
    const auto rest = page_of(index).subspan(slot.filled);
    const auto place = source_->place(offset, rest.size());
    request(index, place.fd, offset, rest.first(place.length));
}

DemandReads::Finished DemandReads::failed(std::size_t index, SourceError why) {
    return {.index = index, .fault = slots_[index].fault, .bytes = std::unexpected(why)};
}

std::optional<DemandReads::Finished> DemandReads::take_failed() {
    if (broken_.empty()) return std::nullopt;
    const auto [index, why] = broken_.front();
    broken_.pop_front();
    return failed(index, why);
}

std::optional<DemandReads::Finished> DemandReads::verify(std::size_t index) {
    Slot& slot = slots_[index];
    const auto bytes = page_of(index);
    std::optional<image::MapReader::ListPlace> missing;
    if (const auto error = source_->check(slot.fault.page.offset, bytes, missing))
        return failed(index, *error);
    if (!missing) return Finished{.index = index, .fault = slot.fault, .bytes = bytes};
    slot.reads_list = true;
    slot.list = *missing;
    request(index, source_->map_fd(), missing->offset, list_of(index));
    return std::nullopt;
}

std::optional<DemandReads::Finished>
DemandReads::read_ended(std::uint64_t token, std::int64_t result) {
    Slot& slot = slots_.at(token);
    if (slot.reads_list) {
        slot.reads_list = false;
        if (result != static_cast<std::int64_t>(slot.list.size))
            return failed(
                token, {FailureReason::MapDamaged, result < 0 ? static_cast<int>(-result) : EIO}
            );
        if (const auto error = source_->add_list(slot.list, list_of(token)))
            return failed(token, *error);
        return verify(token);
    }
    if (result <= 0 && result != -EINTR && result != -EAGAIN)
        return failed(token, error_of(result));
    if (result > 0) {
        slot.filled += static_cast<std::uint64_t>(result);
        source_->count_read(static_cast<std::uint64_t>(result));
    }
    const auto page = page_of(token);
    if (slot.filled == page.size()) return verify(token);
    request_page(token);
    return std::nullopt;
}

void DemandReads::release(std::size_t index) {
    slots_[index].used = false;
    --active_;
    if (waiting_.empty()) {
        // 2 MiB that may not be needed again for long.
        if (page_size_ != protocol::kBitPage)
            ::madvise(page_of(index).data(), page_size_, MADV_DONTNEED);
        return;
    }
    const Fault next = waiting_.front();
    waiting_.pop_front();
    start(index, next);
}

std::uint64_t DemandReads::oldest() const {
    std::uint64_t oldest = kNever;
    for (const Slot& slot : slots_)
        if (slot.used) oldest = std::min(oldest, slot.fault.taken_ns);
    for (const Fault& fault : waiting_)
        oldest = std::min(oldest, fault.taken_ns);
    return oldest == kNever ? 0 : oldest;
}

} // namespace thaw::worker
