// SPDX-License-Identifier: MIT
// The calls that a real VMM does not have.
#include "api.hpp"

#include <fmt/format.h>

namespace thaw::standin {

using nlohmann::json;

json Api::report() {
    json out = machine_.report();
    out["id"] = id_;
    out["exec_to_api_us"] = start_.process_us;
    out["main_to_api_us"] = start_.main_us;
    return out;
}

HttpResponse Api::standin_verify(const json& body) {
    only_keys(body, {"memory", "recipe", "timeout_ms", "max_wrong"});
    VerifyRequest request;
    request.memory_path = body.value("memory", std::string());
    request.from_recipe = body.value("recipe", false);
    request.timeout_ms = body.value("timeout_ms", std::uint64_t{0});
    request.wrong_max = body.value("max_wrong", request.wrong_max);
    auto result = machine_.verify(request);
    return result ? answer(*result) : fault(result.error());
}

HttpResponse Api::standin_put(const HttpRequest& request, const json& body) {
    if (request.path == "/standin/exit") {
        only_keys(body, {"code"});
        HttpResponse response;
        response.exit_code = body.value("code", 0);
        return response;
    }
    if (!machine_.loaded()) {
        return fault("no snapshot is loaded");
    }
    if (request.path == "/standin/verify") {
        return standin_verify(body);
    }
    if (request.path == "/standin/hash") {
        only_keys(body, {"first", "count"});
        auto result = machine_.hash(
            body.value("first", std::uint64_t{0}), body.value("count", std::uint64_t{0})
        );
        return result ? answer(*result) : fault(result.error());
    }
    if (request.path == "/standin/guest") {
        auto done = machine_.set_guest(body);
        return done ? HttpResponse{} : fault(done.error());
    }
    return fault(fmt::format("Invalid request method and/or path: PUT {}.", request.path));
}

} // namespace thaw::standin
