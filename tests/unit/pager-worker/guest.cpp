// SPDX-License-Identifier: MIT
#include "harness.hpp"
#include "harness_steps.hpp"
#include "image/memory_map.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace thaw::test {

Guest::Guest(const Layout& layout) : layout_(layout) {
    uffd_.reset(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    must_be(static_cast<bool>(uffd_), "userfaultfd (these tests need root)");
    uffdio_api api{.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE, .ioctls = 0};
    must_be(::ioctl(uffd_.get(), UFFDIO_API, &api) == 0, "UFFDIO_API");
    const std::uint64_t split = layout.split == 0 ? layout.size : layout.split;
    for (std::uint64_t offset = 0; offset < layout.size;
         offset = offset == 0 ? split : layout.size) {
        const std::uint64_t size = offset == 0 ? split : layout.size - split;
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
                          (layout.huge ? MAP_HUGETLB | 21 << MAP_HUGE_SHIFT : 0);
        void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        must_be(base != MAP_FAILED, "map guest memory");
        uffdio_register reg{};
        reg.range = {.start = reinterpret_cast<std::uintptr_t>(base), .len = size};
        reg.mode = UFFDIO_REGISTER_MODE_MISSING;
        must_be(::ioctl(uffd_.get(), UFFDIO_REGISTER, &reg) == 0, "UFFDIO_REGISTER");
        regions_.push_back({
            .base = reinterpret_cast<std::uintptr_t>(base),
            .size = size,
            .offset = offset,
            .page_size = layout.page_size,
        });
    }
}

Guest::~Guest() {
    uffd_.reset();
    for (const auto& region : regions_)
        ::munmap(reinterpret_cast<void*>(region.base), region.size);
}

void* Guest::address(std::uint64_t page) const {
    for (const auto& region : regions_) {
        const std::uint64_t offset = page * kPage;
        if (offset >= region.offset && offset - region.offset < region.size)
            return reinterpret_cast<void*>(region.base + offset - region.offset);
    }
    return nullptr;
}

volatile std::uint64_t* Guest::at(std::uint64_t page) const {
    return static_cast<volatile std::uint64_t*>(address(page));
}

void Guest::remove(std::uint64_t first_page, std::uint64_t count) const {
    must_be(::madvise(address(first_page), count * kPage, MADV_DONTNEED) == 0, "MADV_DONTNEED");
}

bool Guest::is_zero(std::uint64_t page) const {
    return image::is_zero_page(static_cast<const std::byte*>(address(page)));
}

void Guest::unregister() const {
    for (const auto& region : regions_) {
        uffdio_range range{.start = region.base, .len = region.size};
        must_be(::ioctl(uffd_.get(), UFFDIO_UNREGISTER, &range) == 0, "UFFDIO_UNREGISTER");
    }
}

} // namespace thaw::test
