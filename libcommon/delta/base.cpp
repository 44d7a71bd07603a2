// SPDX-License-Identifier: MIT
#include "delta/base.hpp"

#include "core/file.hpp"
#include "image/digest.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

namespace thaw::delta {

namespace {

constexpr std::size_t kBuffer = 1 << 20;

Result<std::uint64_t> regular_size(int fd) {
    struct stat st{};
    if (fstat(fd, &st) < 0) return fail_errno(errno, "stat the base");
    if (!S_ISREG(st.st_mode)) return fail(EBADMSG, "the base is not a regular file");
    return static_cast<std::uint64_t>(st.st_size);
}

} // namespace

Result<BaseReference> reference_of(int fd, const Progress& progress) {
    THAW_TRY(const std::uint64_t size, regular_size(fd));
    image::Digest digest;
    std::vector<std::byte> buffer(std::min<std::uint64_t>(kBuffer, size));
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (std::uint64_t at = 0; at < size;) {
        const auto part =
            std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - at));
        THAW_CHECK(pread_exact(fd, part, at));
        digest.add(part);
        at += part.size();
        if (progress && !progress(at, size)) return fail(ECANCELED, "canceled");
    }
    return BaseReference{.form = BaseForm::Content, .size = size, .id = digest.bytes()};
}

Result<> check_base(int fd, const BaseReference& wanted, const Progress& progress) {
    if (wanted.form == BaseForm::None) return {};
    if (wanted.form == BaseForm::Image)
        return fail(ENOTSUP, "the difference lies over an image, not over a file");
    THAW_TRY(const std::uint64_t size, regular_size(fd));
    if (size != wanted.size)
        return fail(ESTALE, "another base: {} bytes where {} are meant", size, wanted.size);
    THAW_TRY(const auto reference, reference_of(fd, progress));
    if (reference != wanted) return fail(ESTALE, "another base: its content is not the one meant");
    return {};
}

} // namespace thaw::delta
