// SPDX-License-Identifier: MIT
#include "transfers.hpp"

#include <optional>

namespace thaw::fetchd {

namespace {

std::optional<std::string> header_of(CURL* easy, const char* name) {
    curl_header* header = nullptr;
    if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return std::nullopt;
    return std::string(header->value);
}

} // namespace

Result<std::unique_ptr<Transfers>> Transfers::create(EventLoop& loop) {
    std::unique_ptr<Transfers> transfers(new Transfers);
    THAW_TRY(
        transfers->multi_, http::CurlMulti::create(
                               loop, CURL_GLOBAL_DEFAULT,
                               [](void* owner, CURLcode code) {
                                   const auto end = static_cast<Transfer*>(owner)->events_.end;
                                   end(code);
                               }
                           )
    );
    return transfers;
}

Transfer::Transfer(Transfers& transfers, Events events)
    : transfers_(transfers), events_(std::move(events)), easy_(curl_easy_init()),
      error_(CURL_ERROR_SIZE, '\0') {
    set(CURLOPT_PRIVATE, this);
    set(CURLOPT_ERRORBUFFER, error_.data());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_BUFFERSIZE, kBuffer);
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_body);
    set(CURLOPT_WRITEDATA, this);
    if (!events_.supply) return;
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_UPLOAD_BUFFERSIZE, kBuffer);
    set(CURLOPT_READFUNCTION, &Transfer::on_supply);
    set(CURLOPT_READDATA, this);
}

Transfer::~Transfer() {
    transfers_.multi_->remove(easy_.get());
}

void Transfer::add_header(const std::string& line) {
    auto* longer = curl_slist_append(headers_.get(), line.c_str());
    if (longer == nullptr) {
        worst_ = CURLE_OUT_OF_MEMORY;
        return;
    }
    (void)headers_.release();
    headers_.reset(longer);
}

Outcome<> Transfer::start() {
    set(CURLOPT_HTTPHEADER, headers_.get());
    if (!easy_) worst_ = CURLE_OUT_OF_MEMORY;
    if (worst_ != CURLE_OK)
        return final_failure(
            FetchError::Invalid, EINVAL, "prepare a request: {}", curl_easy_strerror(worst_)
        );
    if (auto sent = transfers_.multi_->add(easy_.get()); !sent)
        return passing_failure(
            FetchError::Unreachable, sent.error().code(), "{}", sent.error().message()
        );
    return {};
}

void Transfer::resume() {
    if (!std::exchange(paused_, false)) return;
    curl_easy_pause(easy_.get(), CURLPAUSE_CONT);
    // That may have ended the transfer, which nobody has been told yet.
    transfers_.multi_->collect_later();
}

Answer Transfer::answer() const {
    Answer answer;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &answer.status);
    answer.content_range = header_of(easy_.get(), "Content-Range");
    answer.content_encoding = header_of(easy_.get(), "Content-Encoding");
    answer.content_length = header_of(easy_.get(), "Content-Length");
    answer.etag = header_of(easy_.get(), "ETag");
    answer.last_modified = header_of(easy_.get(), "Last-Modified");
    return answer;
}

std::string Transfer::error_text(CURLcode code) const {
    std::string text(error_.c_str());
    return text.empty() ? curl_easy_strerror(code) : text;
}

std::size_t Transfer::on_body(char* data, std::size_t one, std::size_t size, void* user) noexcept {
    auto* transfer = static_cast<Transfer*>(user);
    const std::span bytes(reinterpret_cast<const std::byte*>(data), one * size);
    switch (transfer->events_.body(bytes)) {
    case Take::All:
        return bytes.size();
    case Take::Later:
        transfer->paused_ = true;
        return CURL_WRITEFUNC_PAUSE;
    case Take::Stop:
        break;
    }
    return CURL_WRITEFUNC_ERROR;
}

std::size_t
Transfer::on_supply(char* data, std::size_t one, std::size_t size, void* user) noexcept {
    auto* transfer = static_cast<Transfer*>(user);
    const std::span room(reinterpret_cast<std::byte*>(data), one * size);
    const int given = transfer->events_.supply(room);
    if (given >= 0) return static_cast<std::size_t>(given);
    transfer->paused_ = true;
    return CURL_READFUNC_PAUSE;
}

} // namespace thaw::fetchd
