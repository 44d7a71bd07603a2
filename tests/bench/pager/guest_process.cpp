// SPDX-License-Identifier: MIT
#include "guest_process.hpp"

#include "core/scm.hpp"

#include <fmt/format.h>

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <thread>

namespace thaw::bench {

namespace {

Fd send_regions(const std::string& socket, const Guest& guest) {
    Fd connection = must(connect_unix(socket, SOCK_STREAM, false), "connect to the pager");
    const std::string text = fmt::format(
        R"([{{"base_host_virt_addr":{},"size":{},"offset":0,"page_size":4096,"page_size_kib":4096}}])",
        reinterpret_cast<std::uintptr_t>(guest.base()), guest.size()
    );
    const std::array<int, 1> fds{guest.uffd()};
    if (!send_message(connection.get(), std::as_bytes(std::span(text)), fds))
        give_up("send the regions");
    return connection;
}

} // namespace

struct GuestProcess::Shared {
    std::atomic<bool> on = false;
    std::atomic<std::uint64_t> count = 0;
    std::uint64_t capacity = 0;
    std::uint64_t took[1]; // `capacity` of them
};

GuestProcess::GuestProcess(const Setup& setup) {
    const std::uint64_t capacity = std::max<std::uint64_t>(setup.size / kPage, 1);
    shared_size_ = sizeof(Shared) + capacity * sizeof(std::uint64_t);
    void* memory =
        ::mmap(nullptr, shared_size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) give_up("map a guest's results");
    shared_ = new (memory) Shared;
    shared_->capacity = capacity;
    auto pair = must(make_seqpacket_pair(false), "make a socket pair");
    pid_ = ::fork();
    if (pid_ < 0) give_up("fork");
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        constexpr int kChannel = 3; // nothing of ours but that: descriptors mean lifetimes
        ::dup2(pair.second.get(), kChannel);
        ::close_range(kChannel + 1, ~0U, 0);
        run(setup, *shared_, kChannel);
    }
    channel_ = std::move(pair.first);
}

GuestProcess::~GuestProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::munmap(shared_, shared_size_);
}

void GuestProcess::connect() {
    if (::write(channel_.get(), "c", 1) != 1) give_up("speak to a guest");
}

bool GuestProcess::is_serving() {
    pollfd answer{.fd = channel_.get(), .events = POLLIN, .revents = 0};
    char byte = 0;
    if (!serving_ && ::poll(&answer, 1, 0) == 1) {
        if (::read(channel_.get(), &byte, 1) != 1) give_up("a guest died");
        serving_ = true;
    }
    return serving_;
}

void GuestProcess::work(bool on) {
    shared_->on = on;
}

std::vector<std::uint64_t> GuestProcess::take() {
    const std::uint64_t count = shared_->count.load(std::memory_order_acquire);
    const std::uint64_t from = std::exchange(taken_, count);
    return {shared_->took + from, shared_->took + count};
}

void GuestProcess::run(const Setup& setup, Shared& shared, int channel) {
    const Guest guest(std::max<std::uint64_t>(setup.size, kPage));
    Fd connection;
    char byte = 0;
    if (!setup.socket.empty()) {
        if (::read(channel, &byte, 1) != 1) ::_exit(1);
        connection = send_regions(setup.socket, guest);
        if (*guest.at(0) != Image::first_word(0)) ::_exit(1);
        if (::write(channel, "s", 1) != 1) ::_exit(1);
    }
    std::vector<std::thread> threads;
    const unsigned count =
        setup.work == Work::Touch || setup.work == Work::None ? 1 : setup.threads;
    for (unsigned part = 0; part < count; ++part)
        threads.emplace_back([&, part] {
            if (setup.work == Work::Touch) touch(setup, guest, shared);
            while (setup.work != Work::None) {
                while (!shared.on)
                    std::this_thread::sleep_for(std::chrono::milliseconds(1));
                storm(setup, guest, shared, part);
            }
        });
    ::pause();
    ::_exit(0);
}

void GuestProcess::touch(const Setup& setup, const Guest& guest, Shared& shared) {
    const std::uint64_t count = setup.pages.empty() ? shared.capacity : setup.pages.size() + 1;
    for (std::uint64_t i = 1; i < count; ++i) {
        while (!shared.on)
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        // 7919 is prime: each one once.
        const std::uint64_t page =
            setup.pages.empty() ? i * 7919 % shared.capacity : setup.pages[i - 1];
        const std::uint64_t before = now_ns();
        if (*guest.at(page) != Image::first_word(page)) ::_exit(1);
        shared.took[i - 1] = now_ns() - before;
        shared.count.store(i, std::memory_order_release);
        if (setup.pause_us > 0)
            std::this_thread::sleep_for(std::chrono::microseconds(setup.pause_us));
    }
    ::pause();
}

void GuestProcess::storm(const Setup& setup, const Guest& guest, Shared& shared, unsigned part) {
    const std::uint64_t pages = guest.size() / kPage / setup.threads;
    const std::uint64_t first = pages * part;
    std::mt19937_64 random(part);
    while (shared.on && setup.work == Work::Spin)
        continue;
    while (shared.on && setup.work == Work::Removes) {
        const std::uint64_t page = first + random() % pages;
        ::madvise(guest.base() + page * kPage, kPage, MADV_DONTNEED);
        static_cast<void>(*guest.at(page));
    }
    for (std::uint64_t i = 0; i < pages && shared.on && setup.work == Work::Faults; ++i)
        static_cast<void>(*guest.at(first + i * 7919 % pages));
    if (setup.work == Work::Faults)
        ::madvise(guest.base() + first * kPage, pages * kPage, MADV_DONTNEED);
}

} // namespace thaw::bench
