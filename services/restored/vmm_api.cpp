// SPDX-License-Identifier: MIT
#include "vmm_api.hpp"

#include "event/priorities.hpp"
#include "http/curl_multi.hpp"

#include <algorithm>

namespace thaw::restore {

namespace {

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
    http::Easy easy_;
    http::HeaderList headers_;
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
    Result<> add(MultiCall& call) { return multi_->add(call.easy()); }
    void remove(MultiCall& call) { multi_->remove(call.easy()); }

private:
    EventLoop& loop_;
    std::unique_ptr<http::CurlMulti> multi_;
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
    // Plain HTTP: nothing of TLS is set up.
    THAW_TRY(
        multi_, http::CurlMulti::create(
                    loop_, CURL_GLOBAL_NOTHING,
                    [](void* owner, CURLcode code) {
                        auto& call = *static_cast<MultiCall*>(owner);
                        call.finish(call.result_of(code));
                    }
                )
    );
    return {};
}

HttpHandle MultiApi::send(const HttpRequest& request, Handler handler) {
    return std::make_unique<MultiCall>(*this, request, std::move(handler));
}

} // namespace

Result<std::unique_ptr<VmmApi>> VmmApi::create(EventLoop& loop) {
    auto api = std::make_unique<MultiApi>(loop);
    THAW_CHECK(api->init());
    return api;
}

} // namespace thaw::restore
