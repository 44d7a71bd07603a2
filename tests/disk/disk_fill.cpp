// SPDX-License-Identifier: MIT
// Writers of the disk lab: children, so that they can be another user.
#include "disk_lab.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <stdexcept>

namespace thaw::test {

namespace {

constexpr std::array<std::size_t, 4> kSteps{4 * kMiB, 64 << 10, 4 << 10, 1};
constexpr int kRounds = 20;
constexpr off_t kByteStride = 1 << 20;

struct Outcome {
    int error;
    unsigned count;
};

// The child writes its outcome into shared memory: no disk, no pipe to fill.
Outcome in_child(Writer writer, const std::function<Outcome()>& work) {
    void* page =
        mmap(nullptr, sizeof(Outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) throw std::runtime_error("mmap");
    auto* outcome = static_cast<Outcome*>(page);
    *outcome = {.error = EPROTO, .count = 0};
    const pid_t child = fork();
    if (child == 0) {
        if (writer.uid != 0 &&
            (setgroups(0, nullptr) < 0 || setgid(writer.uid) < 0 || setuid(writer.uid) < 0))
            _exit(1);
        *outcome = work();
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) throw std::runtime_error("fork");
    const Outcome result = *outcome;
    munmap(page, sizeof(Outcome));
    return result;
}

const std::vector<char>& noise() {
    static const std::vector<char> bytes = [] {
        std::vector<char> data(kSteps.front());
        for (std::size_t done = 0; done < data.size();) {
            const auto got = getrandom(data.data() + done, data.size() - done, 0);
            if (got > 0) done += static_cast<std::size_t>(got);
        }
        return data;
    }();
    return bytes;
}

// Bytes of one step; *error is why it ended.
std::uint64_t fill_step(int file, std::size_t size, int* error) {
    std::uint64_t written = 0;
    for (;;) {
        const auto n = write(file, noise().data(), size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            *error = n < 0 ? errno : EIO;
            return written;
        }
        written += static_cast<std::uint64_t>(n);
    }
}

Outcome fill_file(const std::string& name) {
    const int file = open(name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0) return {errno, 0};
    Outcome outcome{};
    for (int round = 0; round < kRounds; round++) {
        std::uint64_t written = 0;
        for (const auto size : kSteps)
            written += fill_step(file, size, &outcome.error);
        if (written == 0) break;
        // Room that was only set aside for data not yet placed comes back here.
        if (fsync(file) < 0) outcome.error = errno;
        syncfs(file);
    }
    close(file);
    return outcome;
}

} // namespace

int fill(const std::string& file, Writer writer) {
    return in_child(writer, [&] { return fill_file(file); }).error;
}

std::string inode_name(const std::string& directory, unsigned index) {
    return fmt::format("{}/empty{:0200}", directory, index);
}

int fill_inodes(const std::string& directory, unsigned* made, Writer writer) {
    const auto outcome = in_child(writer, [&]() -> Outcome {
        for (unsigned count = 0;; count++) {
            const auto name = inode_name(directory, count);
            const int file = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            if (file < 0) return {errno, count};
            close(file);
        }
    });
    if (made != nullptr) *made = outcome.count;
    return outcome.error;
}

int write_byte(const std::string& existing_file, Writer writer) {
    return in_child(
               writer,
               [&]() -> Outcome {
                   const int file = open(existing_file.c_str(), O_WRONLY | O_CLOEXEC);
                   if (file < 0) return {errno, 0};
                   const off_t end = lseek(file, 0, SEEK_END);
                   if (pwrite(file, "x", 1, (end / kByteStride + 1) * kByteStride) < 0 ||
                       fsync(file) < 0)
                       return {errno, 0};
                   return {0, 1};
               }
    ).error;
}

int create_with_byte(const std::string& name, Writer writer) {
    return in_child(
               writer,
               [&]() -> Outcome {
                   const int file =
                       open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                   if (file < 0) return {errno, 0};
                   Outcome outcome{0, 1};
                   if (write(file, "x", 1) < 0 || fsync(file) < 0) outcome.error = errno;
                   unlink(name.c_str());
                   return outcome;
               }
    ).error;
}

} // namespace thaw::test
