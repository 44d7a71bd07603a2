// SPDX-License-Identifier: MIT
#include "get_job.hpp"

#include "http_request.hpp"

namespace thaw::fetchd {

GetJob::GetJob(Engine& engine, protocol::FetchMessage request, Report report)
    : Job(engine, std::move(request), report), progress_(std::move(report)),
      writer_(
          engine.writer_for(request_.id), std::move(request_.target), request_.target_offset,
          {
              .written = [this](std::uint64_t written) { on_written(written); },
              .room =
                  [this] {
                      full_ = false;
                      touch();
                      if (transfer_) transfer_->resume();
                  },
              .failed =
                  [this](Failure failure) {
                      if (is_over())
                          settle();
                      else
                          give_up(std::move(failure));
                  },
          }
      ) {}

Outcome<> GetJob::begin() {
    checked_ = false;
    full_ = false;
    refused_.reset();
    first_ = writer_.received();
    transfer_ = std::make_unique<Transfer>(
        engine_.transfers, Transfer::Events{
                               .body = [this](auto data) { return on_body(data); },
                               .end = [this](CURLcode code) { on_end(code); },
                           }
    );
    THAW_CHECK(set_up_request(*transfer_, engine_, request_.url));
    const auto range =
        fmt::format("{}-{}", request_.offset + first_, request_.offset + request_.length - 1);
    transfer_->set(CURLOPT_RANGE, range.c_str());
    if (is_strong_etag(request_.identity.etag))
        transfer_->add_header("If-Match: " + request_.identity.etag);
    return transfer_->start();
}

Transfer::Take GetJob::on_body(std::span<const std::byte> data) {
    touch();
    if (!checked_) {
        auto good = check_range(
            transfer_->answer(), request_.identity, request_.offset + first_,
            request_.length - first_
        );
        if (!good) {
            refused_ = std::move(good).error();
            return Transfer::Take::Stop;
        }
        checked_ = true;
    }
    if (data.size() > request_.length - writer_.received()) {
        refused_ =
            Failure{FetchError::Range, ERANGE, true, "the server sends more than it was asked for"};
        return Transfer::Take::Stop;
    }
    if (writer_.take(data)) return Transfer::Take::All;
    full_ = true;
    return Transfer::Take::Later;
}

// What is wrong with the try that has ended.
Outcome<> GetJob::judge(CURLcode code) {
    if (refused_) return std::unexpected(*std::move(refused_));
    if (code != CURLE_OK) return std::unexpected(failure_of(code, *transfer_));
    if (!checked_)
        THAW_CHECK(check_range(
            transfer_->answer(), request_.identity, request_.offset + first_,
            request_.length - first_
        ));
    if (writer_.received() < request_.length)
        return passing_failure(
            FetchError::Short, ENODATA, "the server sent {} of {} bytes",
            writer_.received() - first_, request_.length - first_
        );
    return {};
}

void GetJob::on_end(CURLcode code) {
    auto good = judge(code);
    transfer_.reset();
    if (!good) return try_failed(std::move(good).error());
    writer_.finish();
    // Nothing is left to be written when all of it was whole units.
    if (writer_.written() == request_.length) succeeded();
}

void GetJob::on_written(std::uint64_t written) {
    if (is_over()) return settle();
    progress_.progress(written);
    if (written == request_.length && !transfer_) succeeded();
}

Outcome<> ProbeJob::begin() {
    too_much_ = false;
    transfer_ = std::make_unique<Transfer>(
        engine_.transfers, Transfer::Events{
                               .body =
                                   [this](std::span<const std::byte>) {
                                       // Only its head is of interest.
                                       too_much_ = true;
                                       return Transfer::Take::Stop;
                                   },
                               .end = [this](CURLcode code) { on_end(code); },
                           }
    );
    THAW_CHECK(set_up_request(*transfer_, engine_, request_.url));
    transfer_->set(CURLOPT_RANGE, "0-0");
    return transfer_->start();
}

void ProbeJob::on_end(CURLcode code) {
    const bool has_head = code == CURLE_OK || too_much_;
    auto identity = has_head
                        ? check_probe(transfer_->answer())
                        : Outcome<SourceIdentity>(std::unexpected(failure_of(code, *transfer_)));
    transfer_.reset();
    if (!identity) return try_failed(std::move(identity).error());
    succeeded(std::move(*identity));
}

} // namespace thaw::fetchd
