// SPDX-License-Identifier: MIT
#pragma once

// An opened difference. Everything that is used was checked before.

#include "core/fd.hpp"
#include "delta/format.hpp"
#include "delta/writer.hpp"

#include <string>

namespace thaw::delta {

class DeltaFile {
public:
    // Reads and checks all but the data. EBADMSG for damage (a file that is too short or too long
    // as well), EPROTONOSUPPORT for another version.
    static Result<DeltaFile> open(const std::string& path);
    static Result<DeltaFile> load(Fd file);
    // Whether the file begins like one.
    static Result<bool> is_one(int fd);

    const Delta& content() const { return delta_; }
    int fd() const { return fd_.get(); }

    // Hands all data over in order, in pieces of at most check_bytes whose checksum was compared;
    // `position` counts from the first byte of data. EBADMSG for the first piece that is damaged.
    using Take = std::function<Result<>(std::span<const std::byte>, std::uint64_t position)>;
    Result<> read_checked(const Take& take, const Progress& progress) const;
    // The same for the checksums alone.
    Result<> verify(const Progress& progress) const;

private:
    DeltaFile(Fd fd, Delta delta) : fd_(std::move(fd)), delta_(std::move(delta)) {}
    Fd fd_;
    Delta delta_;
};

} // namespace thaw::delta
