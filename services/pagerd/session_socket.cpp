// SPDX-License-Identifier: MIT
#include "session_socket.hpp"

#include "core/scm.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::pagerd {

namespace {

// One VMM, and room for strangers that connect before it.
constexpr int kBacklog = 16;
constexpr mode_t kDirectoryMode = 0750;
constexpr mode_t kNoExecuteNoOther = 0117;

// An explicit chmod() would drop the inherited setgid bit, so the modes come from the umask.
class ScopedUmask {
public:
    explicit ScopedUmask(mode_t mask) : before_(::umask(mask)) {}
    ~ScopedUmask() { ::umask(before_); }
    ScopedUmask(const ScopedUmask&) = delete;
    ScopedUmask& operator=(const ScopedUmask&) = delete;

private:
    mode_t before_;
};

} // namespace

std::string session_directory(const std::string& runtime, const std::string& name) {
    return fmt::format("{}/vm/{}", runtime, name);
}

std::string session_socket_path(const std::string& runtime, const std::string& name) {
    return session_directory(runtime, name) + "/uffd.sock";
}

Result<Fd> make_session_socket(const std::string& runtime, const std::string& name) {
    const auto directory = session_directory(runtime, name);
    {
        const ScopedUmask mask(0);
        if (::mkdir(directory.c_str(), kDirectoryMode) != 0 && errno != EEXIST)
            return fail_errno(errno, "make directory {}", directory);
    }
    const ScopedUmask mask(kNoExecuteNoOther);
    auto listener = listen_unix(session_socket_path(runtime, name), SOCK_STREAM, kBacklog);
    if (!listener) ::rmdir(directory.c_str());
    return listener;
}

void remove_session_socket(const std::string& runtime, const std::string& name) {
    ::unlink(session_socket_path(runtime, name).c_str());
}

void remove_session_directory(const std::string& runtime, const std::string& name) {
    remove_session_socket(runtime, name);
    ::rmdir(session_directory(runtime, name).c_str());
}

std::string rootfs_socket_path(const std::string& runtime, const std::string& name) {
    return fmt::format("{}/rootfs/{}.sock", runtime, name);
}

Result<Fd> make_rootfs_socket(const std::string& runtime, const std::string& name) {
    const ScopedUmask mask(kNoExecuteNoOther);
    return listen_unix(rootfs_socket_path(runtime, name), SOCK_SEQPACKET, kBacklog);
}

} // namespace thaw::pagerd
