// SPDX-License-Identifier: MIT
#include "slow_file.hpp"

#include "rig.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#ifdef THAW_HAVE_FUSE
#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include <fuse3/fuse_lowlevel.h>
#endif

namespace thaw::bench {

#ifdef THAW_HAVE_FUSE

namespace {

constexpr fuse_ino_t kFile = 2;
constexpr unsigned kMaxRead = 1 << 20;
constexpr std::uint64_t kLatencyNs = 100'000;
constexpr double kNsPerByte = 2.0; // 500 MB/s

struct Backing {
    int fd = -1;
    std::uint64_t size = 0;
    std::mutex mutex;
    std::uint64_t free_ns = 0; // when the bandwidth is free again
};

// Latencies run side by side, bytes one after the other.
void wait_as_a_disk(Backing& backing, std::size_t size) {
    std::uint64_t until = 0;
    {
        const std::lock_guard lock(backing.mutex);
        const auto cost = static_cast<std::uint64_t>(static_cast<double>(size) * kNsPerByte);
        backing.free_ns = std::max(backing.free_ns, now_ns()) + cost;
        until = backing.free_ns + kLatencyNs;
    }
    const std::uint64_t now = now_ns();
    if (until > now) std::this_thread::sleep_for(std::chrono::nanoseconds(until - now));
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
    fuse_reply_open(request, file);
}

void on_read(
    fuse_req_t request, fuse_ino_t /*inode*/, std::size_t size, off_t offset,
    fuse_file_info* /*file*/
) {
    Backing& backing = backing_of(request);
    std::vector<char> buffer(size);
    const ssize_t got = ::pread(backing.fd, buffer.data(), size, offset);
    if (got < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    wait_as_a_disk(backing, static_cast<std::size_t>(got));
    fuse_reply_buf(request, buffer.data(), static_cast<std::size_t>(got));
}

int serve(const std::string& path, const std::string& folder) {
    Backing backing;
    backing.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (backing.fd < 0 || ::fstat(backing.fd, &status) != 0) return 1;
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
    if (session == nullptr || fuse_session_mount(session, folder.c_str()) != 0) return 1;
    fuse_loop_config* loop = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(loop, 16);
    return fuse_session_loop_mt(session, loop);
}

} // namespace

Result<pid_t> serve_slow_file(const std::string& backing, const std::string& folder) {
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::_exit(serve(backing, folder));
    }
    const std::string file = folder + "/disk";
    for (int attempt = 0; attempt < 500; ++attempt) {
        if (::access(file.c_str(), R_OK) == 0) return child;
        ::usleep(10'000);
    }
    stop_slow_file(child);
    return fail(EIO, "the slow file did not appear");
}

#else

Result<pid_t> serve_slow_file(const std::string& /*backing*/, const std::string& /*folder*/) {
    return fail(ENOTSUP, "built without libfuse3");
}

#endif

void stop_slow_file(pid_t server) {
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
}

} // namespace thaw::bench
