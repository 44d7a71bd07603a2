// SPDX-License-Identifier: MIT
#include "put_job.hpp"

#include "core/file.hpp"
#include "http_request.hpp"

#include <algorithm>
#include <cstring>

namespace thaw::fetchd {

namespace {
constexpr std::size_t kPiece = 1 << 20;
constexpr std::uint64_t kChunk = 4 << 20;
} // namespace

struct PutJob::Piece {
    std::vector<std::byte> data;
    Result<> result;
};

PutJob::PutJob(Engine& engine, protocol::FetchMessage request, Report report)
    : Job(engine, std::move(request), report), progress_(std::move(report)),
      source_(std::make_shared<Fd>(std::move(request_.source))) {}

Microseconds PutJob::time_limit() const {
    return engine_.config.total_timeout * (request_.length / kChunk + 1);
}

Outcome<> PutJob::begin() {
    piece_.reset();
    used_ = 0;
    read_ = 0;
    reading_ = false;
    failed_.reset();
    auto reader = Worker::start(engine_.mailbox, "fetch-put");
    if (!reader)
        return passing_failure(
            FetchError::Read, reader.error().code(), "{}", reader.error().message()
        );
    reader_ = std::move(*reader);
    transfer_ = std::make_unique<Transfer>(
        engine_.transfers, Transfer::Events{
                               .body =
                                   [this](std::span<const std::byte>) {
                                       touch();
                                       return Transfer::Take::All; // what it says is of no use
                                   },
                               .supply = [this](auto room) { return on_supply(room); },
                               .end = [this](CURLcode code) { on_end(code); },
                           }
    );
    THAW_CHECK(set_up_request(*transfer_, engine_, request_.url));
    transfer_->set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request_.length));
    // No "100 Continue" round trip.
    transfer_->add_header("Expect:");
    transfer_->add_header("Content-Type: application/octet-stream");
    return transfer_->start();
}

void PutJob::abort() {
    transfer_.reset();
    reader_.reset();
}

int PutJob::on_supply(std::span<std::byte> room) {
    touch();
    if (piece_ && used_ == piece_->data.size()) {
        piece_.reset();
        used_ = 0;
        progress_.progress(read_);
    }
    if (piece_) {
        const auto size = std::min(room.size(), piece_->data.size() - used_);
        std::memcpy(room.data(), piece_->data.data() + used_, size);
        used_ += size;
        return static_cast<int>(size);
    }
    if (failed_ || (read_ == request_.length && !reading_)) return 0;
    if (!reading_) {
        const auto size =
            static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, request_.length - read_));
        reading_ = true;
        reader_->run<std::shared_ptr<Piece>>(
            [source = source_, size, offset = read_] {
                auto piece = std::make_shared<Piece>();
                piece->data.resize(size);
                piece->result = pread_exact(source->get(), piece->data, offset);
                return piece;
            },
            [this](std::shared_ptr<Piece> piece) { on_piece(std::move(piece)); }
        );
        read_ += size;
    }
    return -1;
}

void PutJob::on_piece(std::shared_ptr<Piece> piece) {
    reading_ = false;
    if (!piece->result)
        return give_up(
            {FetchError::Read, piece->result.error().code(), false,
             "read what is to be sent: " + piece->result.error().message()}
        );
    piece_ = std::move(piece);
    used_ = 0;
    if (transfer_) transfer_->resume();
}

void PutJob::on_end(CURLcode code) {
    const auto answer = transfer_->answer();
    auto good = code == CURLE_OK ? check_put(answer)
                                 : Outcome<>(std::unexpected(failure_of(code, *transfer_)));
    if (good && read_ < request_.length)
        good = passing_failure(
            FetchError::Refused, EREMOTEIO, "the server did not want to have all of it"
        );
    abort();
    if (!good) return try_failed(std::move(good).error());
    SourceIdentity identity{.length = request_.length, .etag = answer.etag.value_or("")};
    if (identity.etag.size() > protocol::kFetchMaxTag) identity.etag.clear();
    succeeded(std::move(identity));
}

} // namespace thaw::fetchd
