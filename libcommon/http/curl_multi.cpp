// SPDX-License-Identifier: MIT
#include "http/curl_multi.hpp"

#include "event/priorities.hpp"

#include <sys/epoll.h>

#include <utility>

namespace thaw::http {

Result<std::unique_ptr<CurlMulti>> CurlMulti::create(EventLoop& loop, long global, Ended ended) {
    std::unique_ptr<CurlMulti> multi(new CurlMulti(loop, std::move(ended)));
    THAW_CHECK(multi->init(global));
    return multi;
}

Result<> CurlMulti::init(long global) {
    // Once per process; not thread-safe, but our threads do not use libcurl.
    static const CURLcode ready = curl_global_init(global);
    multi_.reset(ready == CURLE_OK ? curl_multi_init() : nullptr);
    if (!multi_) return fail(ENOMEM, "set up libcurl");
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &CurlMulti::on_socket);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &CurlMulti::on_timer);
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

Result<> CurlMulti::add(CURL* easy) {
    const auto code = curl_multi_add_handle(multi_.get(), easy);
    if (code != CURLM_OK) return fail(EIO, "send a request: {}", curl_multi_strerror(code));
    active_.insert(easy);
    return {};
}

void CurlMulti::remove(CURL* easy) {
    if (active_.erase(easy) > 0) curl_multi_remove_handle(multi_.get(), easy);
}

int CurlMulti::on_socket(CURL*, curl_socket_t fd, int what, void* user, void*) noexcept {
    static_cast<CurlMulti*>(user)->watch(fd, what);
    return 0;
}

void CurlMulti::watch(curl_socket_t fd, int what) {
    // A fresh source each time: the number may stand for another socket than before.
    sockets_.erase(fd);
    if (what == CURL_POLL_REMOVE) return;
    std::uint32_t events = 0;
    if (what != CURL_POLL_OUT) events |= EPOLLIN;
    if (what != CURL_POLL_IN) events |= EPOLLOUT;
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

int CurlMulti::on_timer(CURLM*, long milliseconds, void* user) noexcept {
    auto* self = static_cast<CurlMulti*>(user);
    if (milliseconds < 0)
        self->timer_.enable(false);
    else
        (void)self->timer_.rearm(static_cast<Microseconds>(milliseconds) * kUsecPerMsec);
    return 0;
}

void CurlMulti::act(curl_socket_t fd, int events) {
    int running = 0;
    curl_multi_socket_action(multi_.get(), fd, events, &running);
    collect();
}

void CurlMulti::collect() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        char* owner = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
        // The handler may end other requests; their messages then vanish from libcurl's list.
        ended_(owner, message->data.result);
    }
}

} // namespace thaw::http
