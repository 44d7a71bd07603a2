// SPDX-License-Identifier: MIT
#pragma once

// What a guest changes, and what a difference made of it would lose.

#include "harness.hpp"
#include "image/page_bitmap.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <span>
#include <thread>

namespace thaw::test {

// Threads that read, write and give back pages at random. What came of it is judged by looking.
class Mutators {
public:
    // `pages`: 4 KiB pages of the guest, of which each thread has its own.
    Mutators(const Guest& guest, std::uint64_t pages, unsigned seed)
        : unit_(guest.regions().front().page_size / kPage), units_(pages / unit_) {
        for (unsigned part = 0; part < 3; ++part)
            threads_.emplace_back([this, &guest, part, seed] { run(guest, part, seed); });
    }
    ~Mutators() { stop(); }
    // As a VM that is paused: nothing is written from now on.
    void stop() {
        stop_ = true;
        for (auto& thread : threads_)
            if (thread.joinable()) thread.join();
    }
    std::uint64_t operations() const { return operations_; }

private:
    void run(const Guest& guest, unsigned part, unsigned seed) {
        std::mt19937_64 random(seed * 10 + part);
        while (!stop_) {
            const std::uint64_t page = (random() % (units_ / 3) * 3 + part) * unit_;
            const std::uint64_t into = random() % unit_;
            switch (random() % 8) {
            case 0:
                *guest.at(page + into) = random();
                break;
            case 1:
                guest.remove(page, unit_);
                break;
            default:
                static_cast<void>(*guest.at(page + into));
            }
            ++operations_;
        }
    }
    std::uint64_t unit_; // 4 KiB pages of one of the mapping
    std::uint64_t units_;
    std::atomic<bool> stop_ = false;
    std::atomic<std::uint64_t> operations_ = 0;
    std::vector<std::thread> threads_;
};

// Not on every architecture (nor in user-mode Linux).
inline bool kernel_can_protect() {
    const Fd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    return ::ioctl(uffd.get(), UFFDIO_API, &api) == 0 &&
           (api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP) != 0;
}

inline void expect_tracking(Broker& broker, protocol::TrackState state) {
    EXPECT_TRUE(eventually([&] {
        return broker.state().tracking == static_cast<std::uint32_t>(state);
    })) << "tracking is "
        << protocol::track_state_name(broker.state().tracking);
}

// What the broker takes while the guest stands still.
inline std::optional<image::PageBitmap> take_dirty(Broker& broker, const WorkerProcess& worker) {
    const auto number = broker.memory().request_vouching();
    Broker::attend(worker);
    const bool vouched = eventually([&] {
        return broker.state().vouched == number ||
               broker.state().tracking == static_cast<std::uint32_t>(protocol::TrackState::Failed);
    });
    EXPECT_TRUE(vouched);
    if (!vouched || broker.state().vouched != number) return std::nullopt;
    const auto words = broker.memory().dirty_bitmap();
    const auto pages = broker.memory().page_count();
    return image::PageBitmap::decode(std::as_bytes(std::span(words)), pages).value();
}

// What a difference would hold that is made now: the dirty pages that are resident, zeros for
// those that are not, and the base for the others. How many of its pages are not as the guest's;
// `as_before` says whether a page is as in the base.
inline std::uint64_t lost_pages(
    const Guest& guest, const image::PageBitmap& dirty,
    const std::function<bool(std::uint64_t)>& as_before
) {
    std::vector<bool> resident(dirty.pages());
    for (std::uint64_t page = 0; page < dirty.pages(); ++page) {
        unsigned char flags = 0;
        EXPECT_EQ(::mincore(guest.address(page), kPage, &flags), 0);
        resident[page] = (flags & 1) != 0;
    }
    std::uint64_t count = 0;
    for (std::uint64_t page = 0; page < dirty.pages(); ++page) {
        if (!dirty.test(page))
            count += as_before(page) ? 0 : 1;
        else if (!resident[page])
            count += guest.is_zero(page) ? 0 : 1;
    }
    return count;
}

inline bool is_of_image(const Guest& guest, std::uint64_t page) {
    return TestImage::matches(guest.address(page), page);
}

} // namespace thaw::test
