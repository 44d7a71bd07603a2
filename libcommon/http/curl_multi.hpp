// SPDX-License-Identifier: MIT
#pragma once

// libcurl's multi interface on the event loop: any number of requests, one thread, nothing blocks.
// A library of its own, so that only who speaks HTTP is linked with libcurl.

#include "event/event.hpp"

#include <curl/curl.h>

#include <functional>
#include <map>
#include <memory>
#include <set>

namespace thaw::http {

struct EasyCloser {
    void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
};
struct MultiCloser {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};
struct ListCloser {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};
using Easy = std::unique_ptr<CURL, EasyCloser>;
using HeaderList = std::unique_ptr<curl_slist, ListCloser>;

class CurlMulti {
public:
    // A request is over. `owner` is its CURLOPT_PRIVATE. May remove and destroy any request.
    using Ended = std::function<void(void* owner, CURLcode code)>;

    // `loop` must outlive the object, and the object its requests. `global` is for
    // curl_global_init(), and the first one of a process decides. ENOMEM.
    static Result<std::unique_ptr<CurlMulti>> create(EventLoop& loop, long global, Ended ended);

    // Starts a request; `easy` stays the caller's, who removes it before it is gone. EIO.
    Result<> add(CURL* easy);
    // Ends a request, if it was added; `ended` is not called.
    void remove(CURL* easy);
    // Looks for requests that are over: for what ended otherwise than from the loop.
    void collect_later() { (void)later_.rearm(0); }

private:
    CurlMulti(EventLoop& loop, Ended ended) : loop_(loop), ended_(std::move(ended)) {}
    Result<> init(long global);
    static int on_socket(CURL*, curl_socket_t fd, int what, void* user, void*) noexcept;
    static int on_timer(CURLM*, long milliseconds, void* user) noexcept;
    void watch(curl_socket_t fd, int what);
    void act(curl_socket_t fd, int events);
    void collect();

    EventLoop& loop_;
    Ended ended_;
    std::map<curl_socket_t, EventSource> sockets_;
    EventSource timer_;
    EventSource later_;
    std::set<CURL*> active_;
    std::unique_ptr<CURLM, MultiCloser> multi_; // gone first: it reports its sockets' end
};

} // namespace thaw::http
