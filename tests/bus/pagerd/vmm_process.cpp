// SPDX-License-Identifier: MIT
#include "vmm_process.hpp"

#include "core/kernel_compat.hpp"
#include "core/scm.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <span>
#include <utility>

namespace thaw::pagerd {

namespace {

constexpr std::uint64_t kPage = 4096;

struct Command {
    char what = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
};

// What runs in the child. It never returns.
class Guest {
public:
    Guest(VmmBehaviour behaviour, int channel)
        : behaviour_(std::move(behaviour)), channel_(channel) {}

    [[noreturn]] void run() {
        map_memory();
        Command command;
        while (::read(channel_, &command, sizeof command) == sizeof command) {
            const char answer = static_cast<char>(execute(command));
            if (::write(channel_, &answer, 1) != 1) break;
        }
        ::_exit(0);
    }

private:
    bool execute(const Command& command) {
        switch (command.what) {
        case 'c':
            return connect_and_send();
        case 'd':
            return ::madvise(
                       memory_ + command.first * kPage, command.count * kPage, MADV_DONTNEED
                   ) == 0;
        case 'u':
            return ::munmap(memory_ + command.first * kPage, command.count * kPage) == 0;
        case 'w':
            for (auto page = command.first; page < command.first + command.count; ++page)
                memory_[page * kPage] = 0;
            return true;
        default:
            return check(command);
        }
    }

    void map_memory() {
        memory_ = static_cast<std::uint8_t*>(::mmap(
            nullptr, behaviour_.memory_size, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
        ));
        uffd_ = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
        if (memory_ == MAP_FAILED || uffd_ < 0) ::_exit(1);
        if (!behaviour_.initialise) return;
        uffdio_api api{.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE, .ioctls = 0};
        if (::ioctl(uffd_, UFFDIO_API, &api) != 0) ::_exit(1);
        uffdio_register registration{};
        registration.range.start = reinterpret_cast<std::uint64_t>(memory_);
        registration.range.len = behaviour_.memory_size;
        registration.mode = UFFDIO_REGISTER_MODE_MISSING;
        if (::ioctl(uffd_, UFFDIO_REGISTER, &registration) != 0) ::_exit(1);
    }

    std::string region_list() const {
        if (!behaviour_.text.empty()) {
            auto text = behaviour_.text;
            // BASE stands for the address, which only the child knows.
            for (auto at = text.find("BASE"); at != std::string::npos; at = text.find("BASE"))
                text.replace(at, 4, std::to_string(reinterpret_cast<std::uint64_t>(memory_)));
            return text;
        }
        std::string text = "[";
        const auto size = behaviour_.memory_size / behaviour_.regions;
        for (std::size_t i = 0; i < behaviour_.regions; ++i) {
            text += fmt::format(
                R"({}{{"base_host_virt_addr":{},"size":{},"offset":{})", i > 0 ? "," : "",
                reinterpret_cast<std::uint64_t>(memory_) + i * size, size, i * size
            );
            if (!behaviour_.page_size_member.empty()) text += R"(,"page_size_kib":4096)";
            if (behaviour_.page_size_member == "page_size") text += R"(,"page_size":4096)";
            text += "}";
        }
        return text + "]";
    }

    bool connect_and_send() {
        auto connection = connect_unix(behaviour_.socket, SOCK_STREAM, false);
        if (!connection) return false;
        if (behaviour_.send_nothing) {
            connection_ = connection->release();
            return true;
        }
        std::vector<int> fds;
        if (behaviour_.send_wrong_descriptor)
            fds.push_back(::eventfd(0, EFD_CLOEXEC));
        else if (behaviour_.send_descriptor)
            fds.push_back(uffd_);
        for (std::size_t i = 0; i < behaviour_.extra_descriptors; ++i)
            fds.push_back(::eventfd(0, EFD_CLOEXEC));
        const auto text = region_list();
        const auto part = (text.size() + behaviour_.parts - 1) / behaviour_.parts;
        for (std::size_t at = 0; at < text.size(); at += part) {
            const auto piece = std::string_view(text).substr(at, part);
            if (!send_message(connection->get(), std::as_bytes(std::span(piece)), fds))
                return false;
            fds.clear();
            if (behaviour_.parts > 1) ::usleep(20000);
        }
        // Firecracker 1.12 and later keeps it open to its end.
        if (!behaviour_.close_after_send) connection_ = connection->release();
        return true;
    }

    bool check(const Command& command) const {
        std::uint8_t expected[kPage] = {};
        for (auto page = command.first; page < command.first + command.count; ++page) {
            if (command.what == 'r') fill_page(page, expected);
            if (std::memcmp(memory_ + page * kPage, expected, kPage) != 0) return false;
        }
        return true;
    }

    VmmBehaviour behaviour_;
    int channel_;
    std::uint8_t* memory_ = nullptr;
    int uffd_ = -1;
    int connection_ = -1;
};

} // namespace

void fill_page(std::uint64_t index, std::uint8_t* page) {
    std::uint64_t state = index * 0x9e3779b97f4a7c15 + 1;
    for (std::size_t at = 0; at < kPage; at += sizeof state) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::memcpy(page + at, &state, sizeof state);
    }
}

VmmProcess::VmmProcess(VmmBehaviour behaviour) {
    auto pair = make_seqpacket_pair(false);
    THAW_INVARIANT(pair);
    pid_ = ::fork();
    THAW_INVARIANT(pid_ >= 0);
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        // Nothing of the test's: an open bus connection would keep its name alive.
        constexpr int kChannel = 3;
        if (pair->second.get() != kChannel) ::dup2(pair->second.get(), kChannel);
        ::close_range(kChannel + 1, ~0U, 0);
        Guest(std::move(behaviour), kChannel).run();
    }
    channel_ = std::move(pair->first);
}

VmmProcess::VmmProcess(VmmProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), channel_(std::move(other.channel_)) {}

VmmProcess::~VmmProcess() {
    kill();
}

void VmmProcess::kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR)
        continue;
    pid_ = -1;
}

void VmmProcess::command(char what, std::uint64_t first, std::uint64_t count) {
    const Command command{what, first, count};
    THAW_INVARIANT(::write(channel_.get(), &command, sizeof command) == sizeof command);
}

} // namespace thaw::pagerd
