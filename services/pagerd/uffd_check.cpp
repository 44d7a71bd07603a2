// SPDX-License-Identifier: MIT
#include "uffd_check.hpp"

#include "api/pager1.hpp"
#include "core/file.hpp"
#include "core/kernel_compat.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <optional>

namespace thaw::pagerd {

namespace {

template <class... Args>
std::unexpected<Error> bad_descriptor(fmt::format_string<Args...> text, Args&&... args) {
    return fail_named(
        pager1::error::kDescriptorsInvalid, EBADF, "{}",
        fmt::format(text, std::forward<Args>(args)...)
    );
}

std::string link_text(int fd) {
    std::array<char, 256> target{};
    const auto path = fmt::format("/proc/self/fd/{}", fd);
    const auto n = ::readlink(path.c_str(), target.data(), target.size());
    return n > 0 ? std::string(target.data(), static_cast<std::size_t>(n)) : std::string();
}

// Features from the "API:\taa:features:ioctls" line of fdinfo, hexadecimal.
std::optional<std::uint64_t> features_of(int fd) {
    const auto info = read_file(fmt::format("/proc/self/fdinfo/{}", fd));
    if (!info) return std::nullopt;
    constexpr std::string_view kKey = "API:\t";
    auto at = info->find(kKey);
    if (at == std::string::npos) return std::nullopt;
    at = info->find(':', at + kKey.size());
    if (at == std::string::npos) return std::nullopt;
    std::uint64_t features = 0;
    const char* end = info->data() + info->size();
    const auto parsed = std::from_chars(info->data() + at + 1, end, features, 16);
    if (parsed.ec != std::errc{}) return std::nullopt;
    return features;
}

} // namespace

Result<> check_userfaultfd(int fd, const std::vector<GuestRegion>& regions) {
    if (const auto link = link_text(fd); link != "anon_inode:[userfaultfd]")
        return bad_descriptor("the descriptor is no userfaultfd but '{}'", link);
    THAW_CHECK(set_nonblocking(fd, true));
    constexpr std::uint64_t kRefused = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_EVENT_FORK;
    if (const auto features = features_of(fd); features && (*features & kRefused) != 0)
        return fail_named(
            pager1::error::kUffdUnsupported, EOPNOTSUPP,
            "the userfaultfd has features {:#x}, which cannot be served", *features & kRefused
        );
    // Waking is harmless at any time, refused before UFFDIO_API, and checks the range.
    for (const auto& region : regions) {
        uffdio_range range{.start = region.address, .len = region.size};
        if (::ioctl(fd, UFFDIO_WAKE, &range) == 0) continue;
        if (errno == EINVAL)
            return bad_descriptor(
                "the userfaultfd is not initialised, or {:#x} is no address of its process",
                region.address
            );
        return bad_descriptor("the userfaultfd does not answer: {}", errno_text(errno));
    }
    return {};
}

bool has_lost_its_memory(int userfault) {
    // Lifts a write protection that there is not: at 64 KiB, the lowest address of a mapping, no
    // VMM has guest memory. The kernel looks for the process first.
    uffdio_writeprotect nothing{.range = {.start = 64 << 10, .len = 4096}, .mode = 0};
    return ::ioctl(userfault, UFFDIO_WRITEPROTECT, &nothing) < 0 && errno == ESRCH;
}

} // namespace thaw::pagerd
