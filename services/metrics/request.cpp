// SPDX-License-Identifier: MIT
#include "request.hpp"

#include "metrics/openmetrics.hpp"

#include <fmt/format.h>

namespace thaw::metrics {

Verdict judge_request(std::string_view received) {
    const bool ended = received.find("\r\n\r\n") != std::string_view::npos ||
                       received.find("\n\n") != std::string_view::npos;
    if (!ended) return received.size() >= kMaxRequest ? Verdict::Bad : Verdict::Incomplete;
    const auto line = received.substr(0, received.find_first_of("\r\n"));
    const auto first = line.find(' ');
    const auto last = line.rfind(' ');
    if (first == std::string_view::npos || first == last ||
        !line.substr(last + 1).starts_with("HTTP/1."))
        return Verdict::Bad;
    if (line.substr(0, first) != "GET") return Verdict::BadMethod;
    auto path = line.substr(first + 1, last - first - 1);
    path = path.substr(0, path.find('?'));
    return path == "/" || path == "/metrics" ? Verdict::Metrics : Verdict::NotFound;
}

std::string make_response(Verdict verdict, std::string_view body) {
    std::string_view status = "400 Bad Request";
    if (verdict == Verdict::Metrics) status = "200 OK";
    if (verdict == Verdict::NotFound) status = "404 Not Found";
    if (verdict == Verdict::BadMethod) status = "405 Method Not Allowed";
    return fmt::format(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        status, kContentType, body.size(), body
    );
}

} // namespace thaw::metrics
