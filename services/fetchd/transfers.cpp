// SPDX-License-Identifier: MIT
#include "transfers.hpp"

#include "event/priorities.hpp"

#include <sys/epoll.h>

#include <algorithm>
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
    std::unique_ptr<Transfers> transfers(new Transfers(loop));
    THAW_CHECK(transfers->init());
    return transfers;
}

Result<> Transfers::init() {
    // Once per process; not thread-safe, but the threads only read and write files.
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_.reset(ready == CURLE_OK ? curl_multi_init() : nullptr);
    if (!multi_) return fail(ENOMEM, "set up libcurl");
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &Transfers::on_socket);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &Transfers::on_timer);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    THAW_TRY(
        timer_, loop_.add_timer(
                    0, [this] { act(CURL_SOCKET_TIMEOUT, 0); }, "curl-timer", priority::kTimer
                )
    );
    timer_.enable(false);
    THAW_TRY(later_, loop_.add_timer(0, [this] { collect(); }, "curl-ended", priority::kNotify));
    later_.enable(false);
    return {};
}

int Transfers::on_socket(CURL*, curl_socket_t fd, int what, void* user, void*) noexcept {
    static_cast<Transfers*>(user)->watch(fd, what);
    return 0;
}

void Transfers::watch(curl_socket_t fd, int what) {
    if (what == CURL_POLL_REMOVE) {
        sockets_.erase(fd);
        return;
    }
    std::uint32_t events = 0;
    if (what != CURL_POLL_OUT) events |= EPOLLIN;
    if (what != CURL_POLL_IN) events |= EPOLLOUT;
    // A fresh source each time: the number may stand for another socket than before.
    sockets_.erase(fd);
    auto source = loop_.add_io(
        fd, events,
        [this, fd](std::uint32_t happened) {
            int mask = 0;
            if ((happened & EPOLLIN) != 0) mask |= CURL_CSELECT_IN;
            if ((happened & EPOLLOUT) != 0) mask |= CURL_CSELECT_OUT;
            if ((happened & (EPOLLERR | EPOLLHUP)) != 0) mask |= CURL_CSELECT_ERR;
            act(fd, mask);
        },
        "curl-socket", priority::kBus
    );
    // Without it the request ends at its time limit.
    if (source) sockets_.emplace(fd, std::move(*source));
}

int Transfers::on_timer(CURLM*, long milliseconds, void* user) noexcept {
    auto* self = static_cast<Transfers*>(user);
    if (milliseconds < 0)
        self->timer_.enable(false);
    else
        (void)self->timer_.rearm(static_cast<Microseconds>(milliseconds) * kUsecPerMsec);
    return 0;
}

void Transfers::act(curl_socket_t fd, int events) {
    int running = 0;
    curl_multi_socket_action(multi_.get(), fd, events, &running);
    collect();
}

void Transfers::collect() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        char* user = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
        // The handler may end other transfers; their messages then vanish from libcurl's list.
        auto* transfer = reinterpret_cast<Transfer*>(user);
        const auto code = message->data.result;
        const auto end = transfer->events_.end;
        end(code);
    }
}

void Transfers::collect_later() {
    (void)later_.rearm(0);
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
    if (std::erase(transfers_.active_, this) > 0)
        curl_multi_remove_handle(transfers_.multi_.get(), easy_.get());
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
    const auto code = curl_multi_add_handle(transfers_.multi_.get(), easy_.get());
    if (code != CURLM_OK)
        return passing_failure(
            FetchError::Unreachable, EIO, "send a request: {}", curl_multi_strerror(code)
        );
    transfers_.active_.push_back(this);
    return {};
}

void Transfer::resume() {
    if (!std::exchange(paused_, false)) return;
    curl_easy_pause(easy_.get(), CURLPAUSE_CONT);
    // That may have ended the transfer, which nobody has been told yet.
    transfers_.collect_later();
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
