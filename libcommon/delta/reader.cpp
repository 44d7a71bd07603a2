// SPDX-License-Identifier: MIT
#include "delta/reader.hpp"

#include "core/file.hpp"
#include "image/memory_map.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace thaw::delta {

Result<bool> DeltaFile::is_one(int fd) {
    std::array<char, kMagic.size()> magic{};
    ssize_t n = -1;
    do
        n = pread(fd, magic.data(), magic.size(), 0);
    while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(errno, "read");
    return n == static_cast<ssize_t>(magic.size()) && magic == kMagic;
}

Result<DeltaFile> DeltaFile::open(const std::string& path) {
    THAW_TRY(Fd fd, open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
    auto file = load(std::move(fd));
    if (!file) return std::unexpected(std::move(file).error().with_context(path));
    return file;
}

Result<DeltaFile> DeltaFile::load(Fd file) {
    struct stat st{};
    if (fstat(file.get(), &st) < 0) return fail_errno(errno, "stat");
    if (!S_ISREG(st.st_mode)) return fail(EBADMSG, "is not a regular file");
    const auto size = static_cast<std::uint64_t>(st.st_size);
    if (size < sizeof(DeltaHeader)) return fail(EBADMSG, "too short for a difference");
    std::array<std::byte, sizeof(DeltaHeader)> head{};
    THAW_CHECK(pread_exact(file.get(), head, 0));
    THAW_TRY(const DeltaHeader header, decode_header(head));
    // Also bounds what is allocated next by what is there.
    if (size != header.data_offset + header.data_bytes)
        return fail(
            EBADMSG, "{} bytes long where the header says {}", size,
            header.data_offset + header.data_bytes
        );
    std::vector<std::byte> meta(meta_size(header));
    THAW_CHECK(pread_exact(file.get(), meta, sizeof header));
    THAW_TRY(Delta delta, decode_meta(header, meta));
    return DeltaFile(std::move(file), std::move(delta));
}

Result<> DeltaFile::read_checked(const Take& take, const Progress& progress) const {
    std::vector<std::byte> buffer(std::min<std::uint64_t>(delta_.check_bytes, delta_.data_bytes));
    for (std::uint64_t at = 0; at < delta_.data_bytes;) {
        const auto part =
            std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), delta_.data_bytes - at));
        THAW_CHECK(pread_exact(fd_.get(), part, delta_.data_offset + at));
        if (image::hash_bytes(part) != delta_.checks[at / delta_.check_bytes])
            return fail(
                EBADMSG, "the data are damaged, in the {} bytes from {} on", part.size(),
                delta_.data_offset + at
            );
        if (take) THAW_CHECK(take(part, at));
        at += part.size();
        if (progress && !progress(at, delta_.data_bytes)) return fail(ECANCELED, "canceled");
    }
    return {};
}

Result<> DeltaFile::verify(const Progress& progress) const {
    return read_checked(nullptr, progress);
}

} // namespace thaw::delta
