// SPDX-License-Identifier: MIT
#pragma once

// A VMM as the broker sees one: a process with guest memory behind a userfaultfd that connects to
// the session's socket and sends its region list the way Firecracker does, well or badly.

#include "core/fd.hpp"
#include "core/text.hpp"

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::pagerd {

// Content of the image's page `index`: no two pages are alike, none is zero.
void fill_page(std::uint64_t index, std::uint8_t* page);

struct VmmBehaviour {
    std::string socket;
    std::uint64_t memory_size = 0;
    std::size_t regions = 1;       // the memory is split into so many
    std::string page_size_member;  // "", "page_size_kib" or "page_size": both are sent
    bool close_after_send = false; // as before Firecracker 1.12
    std::size_t parts = 1;         // the text travels in so many writes
    std::size_t extra_descriptors = 0;
    bool send_descriptor = true;
    bool send_wrong_descriptor = false; // an eventfd
    bool initialise = true;             // UFFDIO_API
    std::string text;                   // sent instead of the region list
    bool send_nothing = false;
};

class VmmProcess {
public:
    // Forks; the child maps its memory and waits for commands. Dies with the test.
    explicit VmmProcess(VmmBehaviour behaviour);
    VmmProcess(VmmProcess&&) noexcept;
    VmmProcess& operator=(VmmProcess&&) = delete;
    VmmProcess(const VmmProcess&) = delete;
    VmmProcess& operator=(const VmmProcess&) = delete;
    ~VmmProcess(); // SIGKILL and reaped

    pid_t pid() const { return pid_; }
    // Commands to the child. Each answers with one byte on answer_fd(): 1 fine, 0 not.
    void connect() { command('c', 0, 0); }
    // Reads the pages and compares them with fill_page().
    void check_pages(std::uint64_t first, std::uint64_t count) { command('r', first, count); }
    // MADV_DONTNEED; then the pages must read as zeros.
    void discard(std::uint64_t first, std::uint64_t count) { command('d', first, count); }
    // The first byte of each becomes 0.
    void write_pages(std::uint64_t first, std::uint64_t count) { command('w', first, count); }
    void check_zeros(std::uint64_t first, std::uint64_t count) { command('z', first, count); }
    // munmap(): the userfaultfd loses that range.
    void unmap(std::uint64_t first, std::uint64_t count) { command('u', first, count); }
    int answer_fd() const { return channel_.get(); }
    void kill();

private:
    void command(char what, std::uint64_t first, std::uint64_t count);
    pid_t pid_ = -1;
    Fd channel_;
};

} // namespace thaw::pagerd
