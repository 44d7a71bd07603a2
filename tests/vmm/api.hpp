// SPDX-License-Identifier: MIT
#pragma once

#include "http_server.hpp"
#include "machine.hpp"

#include <cstdint>
#include <string>

namespace thaw::standin {

/// Routes requests: Firecracker's calls (api.cpp) and the stand-in's own under /standin/
/// (standin_api.cpp). Requests that are not understood answer 400 and harm nothing; a snapshot
/// load that was understood and failed ends the process after its answer.
class Api {
public:
    struct Start {
        std::uint64_t process_us; ///< from exec (10 ms resolution of /proc) to the API socket
        std::uint64_t main_us;    ///< from main() to the API socket
    };

    Api(Machine& machine, const Profile& profile, std::string id)
        : machine_(machine), profile_(profile), id_(std::move(id)) {}

    void set_start(const Start& start) { start_ = start; }
    HttpResponse handle(const HttpRequest& request);

private:
    HttpResponse get(const HttpRequest& request);
    HttpResponse put(const HttpRequest& request, const nlohmann::json& body);
    HttpResponse patch(const HttpRequest& request, const nlohmann::json& body);
    HttpResponse load(const nlohmann::json& body);
    HttpResponse create(const nlohmann::json& body);
    HttpResponse standin_put(const HttpRequest& request, const nlohmann::json& body);
    HttpResponse standin_verify(const nlohmann::json& body);
    nlohmann::json report();

    Machine& machine_;
    const Profile& profile_;
    std::string id_;
    Start start_{};
};

HttpResponse fault(const std::string& message);
HttpResponse answer(const nlohmann::json& body);
/// Throws std::invalid_argument when the object has a key that is not in the list.
void only_keys(const nlohmann::json& object, std::initializer_list<const char*> keys);

} // namespace thaw::standin
