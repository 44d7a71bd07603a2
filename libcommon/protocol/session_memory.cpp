// SPDX-License-Identifier: MIT
#include "protocol/session_memory.hpp"

#include "core/memfd.hpp"
#include "core/names.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <ctime>
#include <new>

namespace thaw::protocol {

namespace {

std::uint64_t monotonic_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

Result<std::byte*> map_shared(int fd, std::size_t size) {
    void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return fail_errno(errno, "map the session memory");
    return static_cast<std::byte*>(base);
}

Result<> check_info(const SessionInfo& info, int code) {
    if (!is_valid_vm_name(info.name)) return fail(code, "session memory: bad VM name");
    if (info.unit.empty() || info.unit.size() >= sizeof(SessionHeader::unit))
        return fail(code, "session memory: bad unit name");
    if (!info.image_name.empty() && (!is_valid_image_name(info.image_name) ||
                                     info.image_name.size() >= sizeof(SessionHeader::image_name)))
        return fail(code, "session memory: bad image name");
    if (info.page_size != kBitPage && info.page_size != (2 << 20))
        return fail(code, "session memory: bad page size {}", info.page_size);
    if (info.memory_size == 0 || info.memory_size > kMaxMemorySize ||
        info.memory_size % info.page_size != 0)
        return fail(code, "session memory: bad memory size {}", info.memory_size);
    if (info.policy != LossPolicy::Poison && info.policy != LossPolicy::Stop)
        return fail(code, "session memory: bad policy");
    if ((info.flags & ~kKnownFlags) != 0)
        return fail(code, "session memory: unknown flags {:#x}", info.flags);
    if ((info.flags & kFlagRecording) != 0 && (info.flags & kFlagPrefetch) != 0)
        return fail(code, "session memory: a recording with prefetch");
    return {};
}

template <std::size_t N>
void put_text(char (&target)[N], const std::string& text) {
    std::memcpy(target, text.data(), text.size()); // check_info() bounded it; the rest is zero
}

// Empty, which no name may be, when there is no NUL.
template <std::size_t N>
std::string take_text(const char (&source)[N]) {
    const std::size_t length = ::strnlen(source, N);
    return length == N ? std::string() : std::string(source, length);
}

SessionHeader header_of(const SessionInfo& info, std::size_t total) {
    SessionHeader header{};
    header.magic = kSessionMagic;
    header.version = kSessionVersion;
    header.policy = static_cast<std::uint32_t>(info.policy);
    header.flags = info.flags;
    header.total_size = total;
    header.memory_size = info.memory_size;
    header.page_size = info.page_size;
    header.created_ns = info.created_ns;
    std::memcpy(header.session_id, info.session_id.data(), sizeof header.session_id);
    std::memcpy(header.image_id, info.image_id.data(), sizeof header.image_id);
    put_text(header.name, info.name);
    put_text(header.unit, info.unit);
    put_text(header.image_name, info.image_name);
    return header;
}

Result<SessionInfo> info_of(const SessionHeader& header, std::size_t total) {
    if (header.magic != kSessionMagic) return fail(EBADMSG, "session memory: bad magic");
    if (header.version != kSessionVersion)
        return fail(EPROTONOSUPPORT, "session memory: layout version {}", header.version);
    SessionInfo info;
    info.policy = static_cast<LossPolicy>(header.policy);
    info.flags = header.flags;
    info.memory_size = header.memory_size;
    info.page_size = header.page_size;
    info.created_ns = header.created_ns;
    std::memcpy(info.session_id.data(), header.session_id, sizeof header.session_id);
    std::memcpy(info.image_id.data(), header.image_id, sizeof header.image_id);
    info.name = take_text(header.name);
    info.unit = take_text(header.unit);
    info.image_name = take_text(header.image_name);
    THAW_CHECK(check_info(info, EBADMSG));
    if (info.image_name.empty() && header.image_name[0] != '\0')
        return fail(EBADMSG, "session memory: bad image name");
    if (header.total_size != total || session_bytes(info.memory_size, info.flags) != total)
        return fail(EBADMSG, "session memory: {} bytes do not fit its memory size", total);
    return info;
}

// Sets or tests the bits [first, first + count) of a bitmap, word by word.
template <class Visit>
void visit_words(std::uint64_t first, std::uint64_t count, Visit&& visit) {
    while (count > 0) {
        const std::uint64_t bit = first % 64;
        const std::uint64_t here = std::min<std::uint64_t>(count, 64 - bit);
        const std::uint64_t ones = here == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << here) - 1;
        if (!visit(first / 64, ones << bit)) return;
        first += here;
        count -= here;
    }
}

std::uint64_t
set_bits(std::atomic<std::uint64_t>* words, std::uint64_t first, std::uint64_t count) noexcept {
    std::uint64_t fresh = 0;
    visit_words(first, count, [&](std::uint64_t word, std::uint64_t mask) {
        const std::uint64_t before = words[word].fetch_or(mask, std::memory_order_acq_rel);
        fresh += static_cast<std::uint64_t>(std::popcount(mask & ~before));
        return true;
    });
    return fresh;
}

} // namespace

SessionMemory::SessionMemory(Fd fd, std::byte* base, std::size_t size, SessionInfo info) noexcept
    : fd_(std::move(fd)), base_(base), size_(size), info_(std::move(info)) {}

SessionMemory::SessionMemory(SessionMemory&& other) noexcept
    : fd_(std::move(other.fd_)), base_(std::exchange(other.base_, nullptr)),
      size_(std::exchange(other.size_, 0)), info_(std::move(other.info_)) {}

SessionMemory& SessionMemory::operator=(SessionMemory&& other) noexcept {
    if (this == &other) return *this;
    if (base_ != nullptr) ::munmap(base_, size_);
    fd_ = std::move(other.fd_);
    base_ = std::exchange(other.base_, nullptr);
    size_ = std::exchange(other.size_, 0);
    info_ = std::move(other.info_);
    return *this;
}

SessionMemory::~SessionMemory() {
    if (base_ != nullptr) ::munmap(base_, size_);
}

Result<SessionMemory> SessionMemory::create(const SessionInfo& given) {
    SessionInfo info = given;
    info.created_ns = monotonic_ns();
    THAW_CHECK(check_info(info, EINVAL));
    const std::size_t size = session_bytes(info.memory_size, info.flags);
    THAW_TRY(Fd fd, make_sized_memfd("thaw-session", size));
    const SessionHeader header = header_of(info, size);
    // pwrite() reports a lack of memory that a store to the mapping would turn into SIGBUS.
    if (::pwrite(fd.get(), &header, sizeof header, kHeaderOffset) != sizeof header)
        return fail_errno(errno, "write the session memory");
    THAW_TRY(std::byte * base, map_shared(fd.get(), size));
    SessionMemory memory(std::move(fd), base, size, std::move(info));
    // Writable already, or this store would be a SIGBUS: allocate its page first.
    if (::madvise(base + kControlOffset, kSessionPage, MADV_POPULATE_WRITE) != 0)
        return fail_errno(errno, "allocate the session memory");
    memory.set_prefetch({.enabled = (memory.info().flags & kFlagPrefetch) != 0});
    return memory;
}

Result<SessionMemory> SessionMemory::map(Fd memfd) {
    if (!has_fixed_size(memfd.get())) return fail(EBADMSG, "session memory: not a sealed memfd");
    struct stat status{};
    if (::fstat(memfd.get(), &status) != 0) return fail_errno(errno, "stat the session memory");
    const auto size = static_cast<std::size_t>(status.st_size);
    if (size < session_bytes(kBitPage, 0) || size > session_bytes(kMaxMemorySize, kFlagRecording))
        return fail(EBADMSG, "session memory: bad size {}", size);
    SessionHeader header{};
    if (::pread(memfd.get(), &header, sizeof header, kHeaderOffset) != sizeof header)
        return fail(EBADMSG, "session memory: cannot read the header");
    THAW_TRY(SessionInfo info, info_of(header, size));
    THAW_TRY(std::byte * base, map_shared(memfd.get(), size));
    return SessionMemory(std::move(memfd), base, size, std::move(info));
}

namespace {
RegionTable* table_of(std::byte* base) {
    return std::launder(reinterpret_cast<RegionTable*>(base + kRegionsOffset));
}
} // namespace

Result<> SessionMemory::set_regions(std::span<const Region> regions) {
    THAW_CHECK(check_regions(regions, info_.memory_size));
    RegionTable* table = table_of(base_);
    if (table->count.load(std::memory_order_acquire) != 0)
        return fail(EALREADY, "session memory: regions are set already");
    std::memcpy(table->regions.data(), regions.data(), regions.size_bytes());
    table->handshake_ns = monotonic_ns();
    table->count.store(static_cast<std::uint32_t>(regions.size()), std::memory_order_release);
    return {};
}

Result<std::vector<Region>> SessionMemory::regions() const {
    const RegionTable* table = table_of(base_);
    const std::uint32_t count = table->count.load(std::memory_order_acquire);
    if (count == 0) return std::vector<Region>{};
    if (count > kMaxRegions) return fail(EBADMSG, "session memory: {} regions", count);
    std::vector<Region> copy(count);
    std::memcpy(copy.data(), table->regions.data(), count * sizeof(Region));
    if (auto checked = check_regions(copy, info_.memory_size); !checked)
        return fail(EBADMSG, "session memory: {}", checked.error().message());
    return copy;
}

std::uint64_t SessionMemory::handshake_ns() const noexcept {
    const RegionTable* table = table_of(base_);
    return table->count.load(std::memory_order_acquire) == 0 ? 0 : table->handshake_ns;
}

SessionState& SessionMemory::state() const noexcept {
    return *std::launder(reinterpret_cast<SessionState*>(base_ + kStateOffset));
}

MessageRing& SessionMemory::ring() const noexcept {
    return *std::launder(reinterpret_cast<MessageRing*>(base_ + kRingOffset));
}

bool SessionMemory::has_messages() const noexcept {
    for (auto& buffer : ring())
        for (auto& message : buffer)
            // The event of a message is its first byte and never 0.
            if (std::atomic_ref(message.bytes[0]).load(std::memory_order_relaxed) != std::byte{0})
                return true;
    return false;
}

std::atomic<std::uint64_t>* SessionMemory::removed_words() const noexcept {
    return std::launder(reinterpret_cast<std::atomic<std::uint64_t>*>(base_ + kBitmapOffset));
}

std::atomic<std::uint64_t>* SessionMemory::dirty_words() const noexcept {
    return std::launder(reinterpret_cast<std::atomic<std::uint64_t>*>(
        base_ + kBitmapOffset + bitmap_bytes(info_.memory_size)
    ));
}

std::atomic<std::uint64_t>* SessionMemory::present_words() const noexcept {
    return std::launder(reinterpret_cast<std::atomic<std::uint64_t>*>(
        base_ + kBitmapOffset + 2 * bitmap_bytes(info_.memory_size)
    ));
}

bool SessionMemory::is_removed(std::uint64_t page) const noexcept {
    return any_removed(page, 1);
}

bool SessionMemory::any_removed(std::uint64_t first_page, std::uint64_t count) const noexcept {
    if (first_page >= page_count()) return false;
    bool found = false;
    const auto* words = removed_words();
    visit_words(
        first_page, std::min(count, page_count() - first_page),
        [&](std::uint64_t word, std::uint64_t mask) {
            found = (words[word].load(std::memory_order_acquire) & mask) != 0;
            return !found;
        }
    );
    return found;
}

std::uint64_t SessionMemory::set_removed(std::uint64_t first_page, std::uint64_t count) noexcept {
    if (first_page >= page_count()) return 0;
    return set_bits(removed_words(), first_page, std::min(count, page_count() - first_page));
}

bool SessionMemory::is_dirty(std::uint64_t page) const noexcept {
    if (page >= page_count()) return false;
    return (dirty_words()[page / 64].load(std::memory_order_acquire) >> (page % 64) & 1) != 0;
}

std::uint64_t SessionMemory::set_dirty(std::uint64_t first_page, std::uint64_t count) noexcept {
    if (first_page >= page_count()) return 0;
    return set_bits(dirty_words(), first_page, std::min(count, page_count() - first_page));
}

Result<> SessionMemory::populate() noexcept {
    if (::madvise(base_, size_, MADV_POPULATE_WRITE) != 0)
        return fail_errno(errno, "allocate the session memory");
    return {};
}

Result<> SessionMemory::lock_pages() noexcept {
    if (::mlock(base_, size_) != 0) return fail_errno(errno, "lock the session memory");
    return {};
}

Result<> SessionMemory::acquire_worker_lock() noexcept {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_len = 1;
    if (::fcntl(fd_.get(), F_SETLK, &lock) == 0) return {};
    if (errno == EACCES || errno == EAGAIN)
        return fail(EAGAIN, "another worker holds the session's lock");
    return fail_errno(errno, "lock the session");
}

Result<std::optional<pid_t>> SessionMemory::worker_lock_holder() const noexcept {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_len = 1;
    if (::fcntl(fd_.get(), F_GETLK, &lock) != 0) return fail_errno(errno, "query the session lock");
    if (lock.l_type == F_UNLCK) return std::optional<pid_t>();
    return std::optional<pid_t>(lock.l_pid);
}

} // namespace thaw::protocol
