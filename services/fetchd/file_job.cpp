// SPDX-License-Identifier: MIT
#include "file_job.hpp"

#include "fetch/file_identity.hpp"

#include <unistd.h>

#include <algorithm>

namespace thaw::fetchd {

struct FileJob::Piece {
    std::vector<std::byte> data;
    Outcome<> result;
};

namespace {

// In the thread: the file must be the pinned one before and after, so that no mixture gets through.
Outcome<> check_file(int fd, const SourceIdentity& pinned) {
    auto now = fetch::file_identity(fd);
    if (!now)
        return passing_failure(FetchError::Read, now.error().code(), "{}", now.error().message());
    if (now->length == pinned.length && (pinned.etag.empty() || now->etag == pinned.etag))
        return {};
    return final_failure(FetchError::Changed, ESTALE, "the file has changed");
}

Outcome<>
read_piece(int fd, std::span<std::byte> data, std::uint64_t offset, const SourceIdentity& pinned) {
    THAW_CHECK(check_file(fd, pinned));
    while (!data.empty()) {
        const auto n = ::pread(fd, data.data(), data.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return passing_failure(
                FetchError::Read, errno, "read the source: {}", errno_text(errno)
            );
        if (n == 0) return passing_failure(FetchError::Short, ENODATA, "the file ends too early");
        data = data.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return check_file(fd, pinned);
}

} // namespace

FileJob::FileJob(Engine& engine, protocol::FetchMessage request, Report report)
    : Job(engine, std::move(request), report), progress_(std::move(report)),
      writer_(
          engine.writer_for(request_.id), std::move(request_.target), request_.target_offset,
          {
              .written =
                  [this](std::uint64_t written) {
                      if (is_over()) return settle();
                      progress_.progress(written);
                      if (written == request_.length) succeeded();
                  },
              .room = [this] { hand_on(); },
              .failed =
                  [this](Failure failure) {
                      if (is_over())
                          settle();
                      else
                          give_up(std::move(failure));
                  },
          }
      ),
      source_(std::make_shared<Fd>(std::move(request_.source))) {}

Outcome<> FileJob::begin() {
    auto reader = Worker::start(engine_.mailbox, "fetch-file");
    if (!reader)
        return passing_failure(
            FetchError::Read, reader.error().code(), "{}", reader.error().message()
        );
    reader_ = std::move(*reader);
    read_next();
    return {};
}

void FileJob::abort() {
    reader_.reset();
    held_.reset();
}

void FileJob::read_next() {
    const auto received = writer_.received();
    const auto left = request_.length - received;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, TargetWriter::kBlock));
    reader_->run<std::shared_ptr<Piece>>(
        [source = source_, size, offset = request_.offset + received, pinned = request_.identity] {
            auto piece = std::make_shared<Piece>();
            piece->data.resize(size);
            piece->result = read_piece(source->get(), piece->data, offset, pinned);
            return piece;
        },
        [this](std::shared_ptr<Piece> piece) { on_piece(std::move(piece)); }
    );
}

void FileJob::on_piece(std::shared_ptr<Piece> piece) {
    touch();
    if (!piece->result) return try_failed(std::move(piece->result).error());
    held_ = std::move(piece);
    hand_on();
}

void FileJob::hand_on() {
    touch();
    if (!held_ || is_over() || !writer_.take(held_->data)) return;
    held_.reset();
    if (writer_.received() < request_.length) return read_next();
    reader_.reset();
    writer_.finish();
}

} // namespace thaw::fetchd
