// SPDX-License-Identifier: MIT
#include "vmm_api.hpp"

#include "event/priorities.hpp"

#include <curl/curl.h>

#include <sys/epoll.h>

#include <algorithm>
#include <map>
#include <vector>

namespace thaw::restore {

namespace {

struct EasyCloser {
    void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
};
struct MultiCloser {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};
struct ListCloser {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};

class MultiApi;

class MultiCall : public HttpCall {
public:
    MultiCall(MultiApi& api, const HttpRequest& request, VmmApi::Handler handler);
    ~MultiCall() override;
    MultiCall(const MultiCall&) = delete;
    MultiCall& operator=(const MultiCall&) = delete;

    CURL* easy() const { return easy_.get(); }
    Result<> configure(const HttpRequest& request);
    // Tells the caller; `this` may be gone afterwards.
    void finish(Result<HttpReply> reply);
    Result<HttpReply> result_of(CURLcode code);
    void fail_soon(Error error);

private:
    static std::size_t on_body(char* data, std::size_t one, std::size_t size, void* user) noexcept;

    MultiApi& api_;
    std::unique_ptr<CURL, EasyCloser> easy_;
    std::unique_ptr<curl_slist, ListCloser> headers_;
    HttpReply reply_;
    bool too_large_ = false;
    VmmApi::Handler handler_;
    EventSource deferred_;
};

class MultiApi : public VmmApi {
public:
    explicit MultiApi(EventLoop& loop) : loop_(loop) {}
    Result<> init();
    HttpHandle send(const HttpRequest& request, Handler handler) override;

    EventLoop& loop() { return loop_; }
    Result<> add(MultiCall& call);
    void remove(MultiCall& call);

private:
    static int on_socket(CURL*, curl_socket_t fd, int what, void* user, void*) noexcept;
    static int on_timer(CURLM*, long milliseconds, void* user) noexcept;
    void watch(curl_socket_t fd, int what);
    void act(curl_socket_t fd, int events);
    void collect();

    EventLoop& loop_;
    std::map<curl_socket_t, EventSource> sockets_;
    EventSource timer_;
    std::vector<MultiCall*> calls_;
    std::unique_ptr<CURLM, MultiCloser> multi_; // gone first: it reports its sockets' end
};

MultiCall::MultiCall(MultiApi& api, const HttpRequest& request, VmmApi::Handler handler)
    : api_(api), easy_(curl_easy_init()), handler_(std::move(handler)) {
    auto done = easy_ ? configure(request) : fail(ENOMEM, "no memory for a request");
    if (done) done = api_.add(*this);
    if (!done) fail_soon(std::move(done).error());
}

MultiCall::~MultiCall() {
    api_.remove(*this);
}

void MultiCall::fail_soon(Error error) {
    auto source = api_.loop().add_defer(
        [this, error = std::move(error)] { finish(std::unexpected(error)); }, "vmm-request-failed",
        priority::kBus
    );
    THAW_INVARIANT(source.has_value());
    deferred_ = std::move(*source);
}

Result<> MultiCall::configure(const HttpRequest& request) {
    const std::string url = "http://localhost" + request.path;
    const auto limit = static_cast<long>((request.timeout + kUsecPerMsec - 1) / kUsecPerMsec);
    headers_.reset(curl_slist_append(headers_.release(), "Accept: application/json"));
    // No "100 Continue" round trip.
    headers_.reset(curl_slist_append(headers_.release(), "Expect:"));
    if (!request.body.empty())
        headers_.reset(curl_slist_append(headers_.release(), "Content-Type: application/json"));

    CURLcode worst = CURLE_OK;
    const auto set = [&](CURLoption option, auto value) {
        if (const auto code = curl_easy_setopt(easy(), option, value); code != CURLE_OK)
            worst = code;
    };
    set(CURLOPT_PROTOCOLS_STR, "http");
    set(CURLOPT_UNIX_SOCKET_PATH, request.socket_path.c_str());
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROXY, "");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FRESH_CONNECT, 1L);
    set(CURLOPT_FORBID_REUSE, 1L);
    set(CURLOPT_TIMEOUT_MS, std::max(limit, 1L));
    set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
    set(CURLOPT_HTTPHEADER, headers_.get());
    if (!request.body.empty()) {
        set(CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body.size()));
        set(CURLOPT_COPYPOSTFIELDS, request.body.c_str());
    }
    set(CURLOPT_WRITEFUNCTION, &MultiCall::on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_PRIVATE, this);
    if (worst != CURLE_OK)
        return fail(EINVAL, "request to {}: {}", request.socket_path, curl_easy_strerror(worst));
    return {};
}

std::size_t MultiCall::on_body(char* data, std::size_t one, std::size_t size, void* user) noexcept {
    auto* call = static_cast<MultiCall*>(user);
    const std::size_t bytes = one * size;
    if (call->reply_.body.size() + bytes > kMaxReplyBody) {
        call->too_large_ = true;
        return 0; // ends the transfer
    }
    call->reply_.body.append(data, bytes);
    return bytes;
}

Result<HttpReply> MultiCall::result_of(CURLcode code) {
    curl_easy_getinfo(easy(), CURLINFO_RESPONSE_CODE, &reply_.status);
    if (too_large_)
        return fail(EMSGSIZE, "the VMM's answer is longer than {} bytes", kMaxReplyBody);
    long os_error = 0;
    switch (code) {
    case CURLE_OK:
        return std::move(reply_);
    case CURLE_OPERATION_TIMEDOUT:
        return fail(ETIMEDOUT, "the VMM did not answer in time");
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(easy(), CURLINFO_OS_ERRNO, &os_error);
        return fail_errno(
            os_error == ENOENT ? ENOENT : ECONNREFUSED, "cannot connect to the VMM's API socket"
        );
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        return fail(ECONNRESET, "the VMM closed the connection before it had answered");
    default:
        return fail(EPROTO, "the VMM's answer is not HTTP: {}", curl_easy_strerror(code));
    }
}

void MultiCall::finish(Result<HttpReply> reply) {
    api_.remove(*this);
    auto handler = std::move(handler_);
    handler(std::move(reply));
}

Result<> MultiApi::init() {
    // Once per process; not thread-safe, we have one thread.
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_NOTHING);
    multi_.reset(ready == CURLE_OK ? curl_multi_init() : nullptr);
    if (!multi_) return fail(ENOMEM, "set up libcurl");
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &MultiApi::on_socket);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &MultiApi::on_timer);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
    THAW_TRY(
        timer_, loop_.add_timer(
                    0, [this] { act(CURL_SOCKET_TIMEOUT, 0); }, "vmm-api-timer", priority::kTimer
                )
    );
    timer_.enable(false);
    return {};
}

HttpHandle MultiApi::send(const HttpRequest& request, Handler handler) {
    return std::make_unique<MultiCall>(*this, request, std::move(handler));
}

Result<> MultiApi::add(MultiCall& call) {
    const auto code = curl_multi_add_handle(multi_.get(), call.easy());
    if (code != CURLM_OK) return fail(EIO, "send request: {}", curl_multi_strerror(code));
    calls_.push_back(&call);
    return {};
}

void MultiApi::remove(MultiCall& call) {
    if (std::erase(calls_, &call) > 0) curl_multi_remove_handle(multi_.get(), call.easy());
}

int MultiApi::on_socket(CURL*, curl_socket_t fd, int what, void* user, void*) noexcept {
    static_cast<MultiApi*>(user)->watch(fd, what);
    return 0;
}

void MultiApi::watch(curl_socket_t fd, int what) {
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
        "vmm-api-socket", priority::kBus
    );
    // Without it the request ends at its time limit.
    if (source) sockets_.emplace(fd, std::move(*source));
}

int MultiApi::on_timer(CURLM*, long milliseconds, void* user) noexcept {
    auto* api = static_cast<MultiApi*>(user);
    if (milliseconds < 0)
        api->timer_.enable(false);
    else
        (void)api->timer_.rearm(static_cast<Microseconds>(milliseconds) * kUsecPerMsec);
    return 0;
}

void MultiApi::act(curl_socket_t fd, int events) {
    int running = 0;
    curl_multi_socket_action(multi_.get(), fd, events, &running);
    collect();
}

void MultiApi::collect() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        char* user = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
        auto* call = reinterpret_cast<MultiCall*>(user);
        // The handler may end other calls; their messages then vanish from libcurl's list.
        call->finish(call->result_of(message->data.result));
    }
}

} // namespace

Result<std::unique_ptr<VmmApi>> VmmApi::create(EventLoop& loop) {
    auto api = std::make_unique<MultiApi>(loop);
    THAW_CHECK(api->init());
    return api;
}

} // namespace thaw::restore
