// SPDX-License-Identifier: MIT
#include "daemon_process.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace thaw::sharesd {

namespace {

constexpr std::size_t kMostMemory = std::size_t{1} << 30;

void hold_descriptors(std::vector<int>& held, std::uint32_t wanted) {
    while (held.size() > wanted) {
        close(held.back());
        held.pop_back();
    }
    while (held.size() < wanted) {
        const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0) break;
        held.push_back(fd);
    }
}

[[noreturn]] void serve(int control) {
    std::vector<int> held;
    // Grows and shrinks in place: a count in between sees no other size.
    auto* memory = static_cast<char*>(mmap(
        nullptr, kMostMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
        -1, 0
    ));
    madvise(memory, kMostMemory, MADV_NOHUGEPAGE);
    std::size_t size = 0;
    DaemonProcess::Order order{};
    while (read(control, &order, sizeof(order)) == sizeof(order)) {
        hold_descriptors(held, order.descriptors);
        const auto wanted = std::min<std::size_t>(order.bytes, kMostMemory);
        if (wanted < size) madvise(memory + wanted, size - wanted, MADV_DONTNEED);
        if (wanted > size) memset(memory + size, 1, wanted - size);
        size = wanted;
        if (write(control, &order, sizeof(order)) < 0) break;
    }
    _exit(0);
}

} // namespace

DaemonProcess::DaemonProcess(const std::string& source, std::uint64_t limit) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const rlimit files{limit, limit};
        const bool ready = unshare(CLONE_NEWNS) == 0 &&
                           mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                           (mkdir("/run/thaw/share", 0755) == 0 || errno == EEXIST) &&
                           mount(source.c_str(), "/run/thaw/share", nullptr, MS_BIND, nullptr) == 0;
        for (int fd = 3; fd < 256; ++fd)
            if (fd != ends[1]) close(fd);
        if (!ready || setrlimit(RLIMIT_NOFILE, &files) < 0) _exit(1);
        serve(ends[1]);
    }
    close(ends[1]);
    control_ = ends[0];
    hold(0); // it is set up then
}

DaemonProcess::~DaemonProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(control_);
}

void DaemonProcess::hold(std::uint32_t descriptors) {
    give({.descriptors = descriptors, .bytes = order_.bytes});
}

void DaemonProcess::occupy(std::uint64_t bytes) {
    give({.descriptors = order_.descriptors, .bytes = bytes});
}

void DaemonProcess::give(Order order) {
    order_ = order;
    if (write(control_, &order, sizeof(order)) < 0 || read(control_, &order, sizeof(order)) < 0)
        std::abort();
}

} // namespace thaw::sharesd
