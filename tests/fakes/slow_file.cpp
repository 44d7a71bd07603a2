// SPDX-License-Identifier: MIT
#include "slow_file.hpp"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <utility>

#ifdef THAW_HAVE_FUSE
#define FUSE_USE_VERSION 314
#include <sys/prctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include <fuse3/fuse_lowlevel.h>
#endif

namespace thaw::fakes {

#ifdef THAW_HAVE_FUSE

namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr fuse_ino_t kFile = 2;
constexpr unsigned kMaxRead = 1 << 20;

struct Backing {
    SlowFile::Setup setup;
    Gate* gate = nullptr;
    std::uint64_t size = 0;
    std::mutex mutex;
    steady_clock::time_point free; // when the bandwidth is free again
};

// Latencies run side by side, bytes one after the other.
void wait_as_a_disk(Backing& backing, std::size_t size) {
    steady_clock::time_point until;
    {
        const std::lock_guard lock(backing.mutex);
        const auto cost =
            static_cast<std::int64_t>(static_cast<double>(size) * backing.setup.ns_per_byte);
        backing.free = std::max(backing.free, steady_clock::now()) + nanoseconds(cost);
        until = backing.free + nanoseconds(backing.setup.latency_ns);
    }
    if (until > steady_clock::now()) std::this_thread::sleep_until(until);
}

bool is_at(const Gate& gate, std::uint64_t offset) {
    return offset >= gate.first && offset < gate.end;
}

void wait_at(Gate& gate, std::uint64_t offset) {
    const auto held = [&] { return gate.closed && is_at(gate, offset); };
    if (!held()) return;
    ++gate.waiting;
    while (held())
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    --gate.waiting;
}

Backing& backing_of(fuse_req_t request) {
    return *static_cast<Backing*>(fuse_req_userdata(request));
}

struct stat attributes(const Backing& backing, fuse_ino_t inode) {
    struct stat status{};
    status.st_ino = inode;
    status.st_nlink = 1;
    status.st_mode = inode == kFile ? S_IFREG | 0400 : S_IFDIR | 0500;
    status.st_size = inode == kFile ? static_cast<off_t>(backing.size) : 0;
    return status;
}

void on_init(void* /*data*/, fuse_conn_info* connection) {
    connection->max_read = kMaxRead;
    connection->max_readahead = 0;
}

void on_lookup(fuse_req_t request, fuse_ino_t /*parent*/, const char* name) {
    if (std::strcmp(name, "disk") != 0) {
        fuse_reply_err(request, ENOENT);
        return;
    }
    fuse_entry_param entry{};
    entry.ino = kFile;
    entry.attr = attributes(backing_of(request), kFile);
    entry.attr_timeout = entry.entry_timeout = 3600;
    fuse_reply_entry(request, &entry);
}

void on_getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info* /*file*/) {
    const struct stat status = attributes(backing_of(request), inode);
    fuse_reply_attr(request, &status, 3600);
}

void on_open(fuse_req_t request, fuse_ino_t /*inode*/, fuse_file_info* file) {
    file->direct_io = backing_of(request).setup.direct ? 1 : 0;
    fuse_reply_open(request, file);
}

void on_read(
    fuse_req_t request, fuse_ino_t /*inode*/, std::size_t size, off_t offset,
    fuse_file_info* /*file*/
) {
    Backing& backing = backing_of(request);
    wait_at(*backing.gate, static_cast<std::uint64_t>(offset));
    if (backing.gate->broken && is_at(*backing.gate, static_cast<std::uint64_t>(offset))) {
        fuse_reply_err(request, EIO);
        return;
    }
    std::vector<char> buffer(size);
    const ssize_t got = ::pread(backing.setup.backing, buffer.data(), size, offset);
    if (got < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    wait_as_a_disk(backing, static_cast<std::size_t>(got));
    fuse_reply_buf(request, buffer.data(), static_cast<std::size_t>(got));
}

int serve_requests(const SlowFile::Setup& setup, Gate* gate) {
    Backing backing;
    backing.setup = setup;
    backing.gate = gate;
    struct stat status{};
    if (::fstat(setup.backing, &status) != 0) return 1;
    backing.size = static_cast<std::uint64_t>(status.st_size);
    fuse_lowlevel_ops operations{};
    operations.init = on_init;
    operations.lookup = on_lookup;
    operations.getattr = on_getattr;
    operations.open = on_open;
    operations.read = on_read;
    std::string options = "-omax_read=" + std::to_string(kMaxRead);
    std::string name = "slow-file";
    char* argv[] = {name.data(), options.data(), nullptr};
    fuse_args arguments = FUSE_ARGS_INIT(2, argv);
    fuse_session* session = fuse_session_new(&arguments, &operations, sizeof operations, &backing);
    if (session == nullptr || fuse_session_mount(session, setup.folder.c_str()) != 0) return 1;
    fuse_loop_config* loop = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(loop, 32);
    return fuse_session_loop_mt(session, loop);
}

} // namespace

Result<SlowFile> SlowFile::serve(const Setup& setup) {
    SlowFile file;
    file.folder_ = setup.folder;
    file.path_ = setup.folder + "/disk";
    void* shared =
        ::mmap(nullptr, sizeof(Gate), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return fail_errno(errno, "map a gate");
    file.gate_ = new (shared) Gate;
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::_exit(serve_requests(setup, file.gate_));
    }
    file.server_ = child;
    for (int attempt = 0; attempt < 500; ++attempt) {
        if (::access(file.path_.c_str(), R_OK) == 0) return file;
        int status = 0;
        if (::waitpid(child, &status, WNOHANG) == child) {
            file.server_ = -1;
            return fail(EPERM, "nothing can be mounted on {}", setup.folder);
        }
        ::usleep(10'000);
    }
    return fail(EIO, "the slow file did not appear");
}

#else

Result<SlowFile> SlowFile::serve(const Setup& /*setup*/) {
    return fail(ENOTSUP, "built without libfuse3");
}

#endif

SlowFile::SlowFile(SlowFile&& other) noexcept
    : folder_(std::move(other.folder_)), path_(std::move(other.path_)),
      gate_(std::exchange(other.gate_, nullptr)), server_(std::exchange(other.server_, -1)) {}

SlowFile::~SlowFile() {
    if (server_ > 0) {
        // Dead first: an unmount would wait for reads that nobody answers.
        ::kill(server_, SIGKILL);
        ::waitpid(server_, nullptr, 0);
        ::umount2(folder_.c_str(), MNT_DETACH);
    }
    if (gate_ != nullptr) ::munmap(gate_, sizeof(Gate));
}

} // namespace thaw::fakes
