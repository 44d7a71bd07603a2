// SPDX-License-Identifier: MIT
#pragma once

// HTTP over a VMM's UNIX socket: libcurl's multi interface on the event loop. Nothing blocks. Plain
// HTTP only, one connection per request, a bounded answer; the VMM is not trusted.

#include "event/event.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace thaw::restore {

struct HttpReply {
    long status = 0;
    std::string body;
};

struct HttpRequest {
    std::string socket_path;
    std::string method = "GET";
    std::string path = "/";
    std::string body; // JSON; empty: none
    Microseconds timeout = 0;
};

// Largest answer taken; a VMM's are some hundred bytes.
inline constexpr std::size_t kMaxReplyBody = 64 << 10;

// Owns a request that is under way; destroying it closes the connection and forgets the handler.
class HttpCall {
public:
    virtual ~HttpCall() = default;
};
using HttpHandle = std::unique_ptr<HttpCall>;

class VmmApi {
public:
    // `loop` must outlive the object, and the object its calls.
    static Result<std::unique_ptr<VmmApi>> create(EventLoop& loop);
    virtual ~VmmApi() = default;

    // Errors: ETIMEDOUT; ECONNREFUSED and ENOENT: nobody listens; ECONNRESET: the VMM went away in
    // the middle; EMSGSIZE: more than kMaxReplyBody; EPROTO: not HTTP. Never calls `handler` from
    // inside send(). Dropping the handle from inside the handler is fine.
    using Handler = std::function<void(Result<HttpReply>)>;
    [[nodiscard]] virtual HttpHandle send(const HttpRequest& request, Handler handler) = 0;
};

} // namespace thaw::restore
