// SPDX-License-Identifier: MIT
#include "test_support.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace thaw::standin::test {
namespace {

constexpr std::size_t body_max = 1U << 20;

void take_descriptors(msghdr& message, Handshake& handshake) {
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
         part = CMSG_NXTHDR(&message, part)) {
        const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            handshake.descriptors.emplace_back(fd);
        }
    }
}

/// False at the end of the stream.
bool receive_some(Handshake& handshake) {
    std::vector<char> buffer(65536);
    alignas(cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))];
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = ::recvmsg(handshake.connection.get(), &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) {
        handshake.eof = true;
        return false;
    }
    take_descriptors(message, handshake);
    handshake.text.append(buffer.data(), static_cast<std::size_t>(got));
    return true;
}

bool readable(int fd, int timeout_ms) {
    pollfd wait{fd, POLLIN, 0};
    return ::poll(&wait, 1, timeout_ms) > 0;
}

} // namespace

std::optional<Handshake> receive_handshake(int listener, int timeout_ms) {
    if (!readable(listener, timeout_ms)) {
        return std::nullopt;
    }
    Handshake handshake;
    handshake.connection.reset(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    while (readable(handshake.connection.get(), timeout_ms) && receive_some(handshake)) {
        handshake.overflow = handshake.text.size() > body_max;
        if (handshake.overflow || json::accept(handshake.text)) {
            break;
        }
    }
    // What a VMM does right after sending is of interest too.
    if (!handshake.eof && readable(handshake.connection.get(), 50)) {
        char byte = 0;
        handshake.eof = ::recv(handshake.connection.get(), &byte, 1, MSG_PEEK) == 0;
    }
    return handshake;
}

SmallPager::SmallPager(
    const std::string& socket_path, const std::string& memory_path, Faults faults
)
    : listener_(listen_unix(socket_path)), stop_(::eventfd(0, EFD_CLOEXEC)),
      memory_path_(memory_path), faults_(faults), thread_([this] { run(); }) {}

SmallPager::~SmallPager() {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(stop_.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
    thread_.join();
    if (memory_ != nullptr) {
        ::munmap(const_cast<std::uint8_t*>(memory_), memory_size_);
    }
}

bool SmallPager::adopt(const Handshake& handshake) {
    const json body = handshake.body();
    if (!body.is_array() || handshake.descriptors.empty()) {
        return false;
    }
    for (const json& item : body) {
        regions_.push_back(
            {item.at("base_host_virt_addr").get<std::uint64_t>(),
             item.at("size").get<std::uint64_t>(), item.at("offset").get<std::uint64_t>()}
        );
        page_size_ = item.value("page_size", item.value("page_size_kib", std::uint64_t{4096}));
        memory_size_ += regions_.back().size;
    }
    removed_.resize(memory_size_ / page_size_);
    const Fd file(::open(memory_path_.c_str(), O_RDONLY | O_CLOEXEC));
    // One page more than RAM, so that "the page after" exists for the last one too.
    void* mapping = ::mmap(nullptr, memory_size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapping == MAP_FAILED) {
        return false;
    }
    memory_ = static_cast<const std::uint8_t*>(mapping);
    uffd_.reset(::fcntl(handshake.descriptors.front().get(), F_DUPFD_CLOEXEC, 3));
    return static_cast<bool>(uffd_);
}

void SmallPager::run() {
    pollfd start[2] = {{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    ::poll(start, 2, -1);
    if (start[1].revents != 0) {
        return;
    }
    const auto handshake = receive_handshake(listener_.get(), 5000);
    if (!handshake || !adopt(*handshake)) {
        ADD_FAILURE() << "bad handshake";
        return;
    }
    for (;;) {
        pollfd wait[2] = {{uffd_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        ::poll(wait, 2, pending_.empty() ? -1 : 1);
        if (wait[1].revents != 0) {
            return;
        }
        read_messages();
        serve_pending();
    }
}

void SmallPager::read_messages() {
    uffd_msg messages[64];
    for (;;) {
        const ssize_t got = ::read(uffd_.get(), messages, sizeof(messages));
        if (got <= 0) {
            return;
        }
        for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(uffd_msg); ++i) {
            if (messages[i].event == UFFD_EVENT_PAGEFAULT) {
                pending_.push_back(messages[i].arg.pagefault.address / page_size_ * page_size_);
                continue;
            }
            for (std::uint64_t at = messages[i].arg.remove.start; at < messages[i].arg.remove.end;
                 at += page_size_) {
                for (const Region& region : regions_) {
                    if (at - region.base < region.size) {
                        removed_[(region.offset + (at - region.base)) / page_size_] = true;
                        ++removed_pages_;
                    }
                }
            }
        }
    }
}

void SmallPager::serve_pending() {
    std::vector<std::uint64_t> again;
    for (const std::uint64_t address : pending_) {
        if (!serve(address)) {
            again.push_back(address);
        }
    }
    pending_ = std::move(again);
}

/// False: try again after reading more messages.
bool SmallPager::serve(std::uint64_t address) {
    static const std::vector<std::uint8_t> zeros(2U << 20);
    std::uint64_t number = 0;
    for (const Region& region : regions_) {
        if (address - region.base < region.size) {
            number = (region.offset + (address - region.base)) / page_size_;
        }
    }
    if (static_cast<std::int64_t>(number) == faults_.silent_page) {
        return true;
    }
    const std::uint8_t* source = memory_ + number * page_size_;
    if (removed_[number] && !faults_.refill_removed) {
        source = zeros.data();
    } else if (static_cast<std::int64_t>(number) == faults_.wrong_page) {
        source += page_size_;
    }
    uffdio_copy copy{};
    copy.dst = address;
    copy.src = reinterpret_cast<std::uintptr_t>(source);
    copy.len = page_size_;
    if (::ioctl(uffd_.get(), UFFDIO_COPY, &copy) == 0) {
        ++served_;
        return true;
    }
    if (errno == EEXIST) {
        uffdio_range range{address, page_size_};
        ::ioctl(uffd_.get(), UFFDIO_WAKE, &range);
        return true;
    }
    return errno != EAGAIN;
}

} // namespace thaw::standin::test
