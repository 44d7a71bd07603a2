// SPDX-License-Identifier: MIT
#pragma once

#include "result.hpp"

#include <functional>
#include <list>
#include <optional>
#include <string>

namespace thaw::standin {

struct HttpRequest {
    std::string method, path, body;
};

struct HttpResponse {
    int status = 204;
    std::string body{};
    /// Set: the process ends with this code after the answer was sent.
    std::optional<int> exit_code{};
};

/// HTTP/1.1 on a UNIX stream socket as Firecracker speaks it: keep-alive, Content-Length bodies,
/// `Expect: 100-continue`, several connections but one request at a time, status lines without a
/// reason phrase.
class HttpServer {
public:
    using Handler = std::function<HttpResponse(const HttpRequest&)>;

    /// Binds and listens; a socket file that exists is an error.
    Result<void> listen(const std::string& path);
    /// Serves until a response asks for the end; answers its exit code.
    int run(const Handler& handler);

private:
    struct Connection {
        Fd socket;
        std::string input;
        bool continued = false; ///< 100 Continue was sent for the request under way
    };

    void accept_one();
    /// False when the connection is to be closed.
    bool read_input(Connection& connection);
    bool serve(Connection& connection, const Handler& handler);

    Fd listener_;
    std::list<Connection> connections_;
    std::optional<int> exit_code_;
};

} // namespace thaw::standin
