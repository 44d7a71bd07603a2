// SPDX-License-Identifier: MIT
#include "api.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace thaw::standin {
namespace {

using nlohmann::json;

constexpr const char* not_after_boot =
    "The requested operation is not supported after starting the microVM.";
constexpr const char* not_before_boot =
    "The requested operation is not supported before starting the microVM.";

void read_backend(const json& body, LoadRequest& request) {
    const bool has_backend = body.contains("mem_backend");
    const bool has_path = body.contains("mem_file_path");
    if (has_backend && has_path) {
        throw std::invalid_argument("too many fields: either `mem_backend` or `mem_file_path` "
                                    "exclusively is required");
    }
    if (!has_backend && !has_path) {
        throw std::invalid_argument(
            "missing field: either `mem_backend` or `mem_file_path` is required"
        );
    }
    if (has_path) {
        request.backend_path = body.at("mem_file_path").get<std::string>();
        return;
    }
    const json& backend = body.at("mem_backend");
    only_keys(backend, {"backend_type", "backend_path"});
    const auto type = backend.at("backend_type").get<std::string>();
    if (type != "File" && type != "Uffd") {
        throw std::invalid_argument(
            fmt::format("unknown variant `{}`, expected `File` or `Uffd`", type)
        );
    }
    request.uffd = type == "Uffd";
    request.backend_path = backend.at("backend_path").get<std::string>();
}

/// Fields that came with a later version are unknown to an earlier one.
void check_load_fields(const json& body, unsigned generation) {
    only_keys(
        body,
        {"snapshot_path", "mem_backend", "mem_file_path", "enable_diff_snapshots",
         "track_dirty_pages", "resume_vm", "network_overrides", "vsock_override", "clock_realtime"}
    );
    const std::pair<const char*, unsigned> since[] = {
        {"network_overrides", 12},
        {"vsock_override", 16},
        {"clock_realtime", 16},
        {"mem_backend", 1}
    };
    for (const auto& [field, version] : since) {
        if (body.contains(field) && generation < version) {
            throw std::invalid_argument(fmt::format("unknown field `{}`", field));
        }
    }
}

LoadRequest parse_load(const json& body, unsigned generation) {
    check_load_fields(body, generation);
    LoadRequest request;
    request.snapshot_path = body.at("snapshot_path").get<std::string>();
    read_backend(body, request);
    request.resume_vm = body.value("resume_vm", false);
    request.track_dirty_pages =
        body.value("track_dirty_pages", false) || body.value("enable_diff_snapshots", false);
    for (const json& item : body.value("network_overrides", json::array())) {
        only_keys(item, {"iface_id", "host_dev_name"});
        request.network_overrides.push_back(
            {item.at("iface_id").get<std::string>(), item.at("host_dev_name").get<std::string>()}
        );
    }
    if (body.contains("vsock_override")) {
        only_keys(body.at("vsock_override"), {"uds_path"});
        request.vsock_override = body.at("vsock_override").at("uds_path").get<std::string>();
    }
    return request;
}

HttpResponse bad_body(const std::string& text) {
    return fault(
        fmt::format("An error occurred when deserializing the json body of a request: {}.", text)
    );
}

HttpResponse bad_path(const HttpRequest& request) {
    const auto path = request.path.substr(std::min<std::size_t>(1, request.path.size()));
    return fault(fmt::format("Invalid request method and/or path: {} {}.", request.method, path));
}

} // namespace

HttpResponse fault(const std::string& message) {
    return {400, json{{"fault_message", message}}.dump()};
}

HttpResponse answer(const json& body) {
    return {200, body.dump()};
}

void only_keys(const json& object, std::initializer_list<const char*> keys) {
    if (!object.is_object()) {
        throw std::invalid_argument("invalid type: expected an object");
    }
    for (const auto& [key, value] : object.items()) {
        const bool known = std::any_of(keys.begin(), keys.end(), [&key = key](const char* name) {
            return key == name;
        });
        if (!known) {
            throw std::invalid_argument(fmt::format("unknown field `{}`", key));
        }
    }
}

HttpResponse Api::handle(const HttpRequest& request) {
    const auto told = profile_.api_error.find(request.method + " " + request.path);
    if (told != profile_.api_error.end()) {
        return fault(told->second);
    }
    if (request.method == "GET") {
        return request.body.empty() ? get(request) : fault("GET request cannot have a body.");
    }
    if (request.method != "PUT" && request.method != "PATCH") {
        return bad_path(request);
    }
    if (request.body.empty()) {
        return fault(fmt::format("Empty {} request.", request.method));
    }
    const json body = json::parse(request.body, nullptr, false);
    if (body.is_discarded()) {
        return bad_body("syntax error");
    }
    try {
        return request.method == "PUT" ? put(request, body) : patch(request, body);
    } catch (const std::exception& error) {
        return bad_body(error.what());
    }
}

HttpResponse Api::get(const HttpRequest& request) {
    if (request.path == "/") {
        return answer(
            {{"app_name", "Firecracker"},
             {"id", id_},
             {"state", machine_.state_name()},
             {"vmm_version", profile_.version()}}
        );
    }
    if (request.path == "/version") {
        return answer({{"firecracker_version", profile_.version()}});
    }
    if (request.path == "/machine-config") {
        return answer(machine_.machine_config());
    }
    if (request.path == "/vm/config") {
        return answer(machine_.vm_config());
    }
    if (request.path == "/standin/report") {
        return answer(report());
    }
    return bad_path(request);
}

HttpResponse Api::put(const HttpRequest& request, const json& body) {
    if (request.path == "/snapshot/load") {
        return load(body);
    }
    if (request.path == "/snapshot/create") {
        return create(body);
    }
    if (request.path == "/logger" || request.path == "/metrics") {
        return machine_.loaded() ? fault(not_after_boot) : HttpResponse{};
    }
    if (request.path.starts_with("/standin/")) {
        return standin_put(request, body);
    }
    return bad_path(request);
}

HttpResponse Api::load(const json& body) {
    const LoadRequest request = parse_load(body, profile_.generation);
    if (machine_.loaded()) {
        return fault(not_after_boot);
    }
    if (auto done = machine_.load(request); !done) {
        HttpResponse response = fault(done.error());
        if (machine_.broken()) {
            response.exit_code = 1;
        }
        return response;
    }
    return {};
}

HttpResponse Api::create(const json& body) {
    only_keys(body, {"snapshot_type", "snapshot_path", "mem_file_path"});
    const auto state_path = body.at("snapshot_path").get<std::string>();
    const auto memory_path = body.at("mem_file_path").get<std::string>();
    const auto type = body.value("snapshot_type", std::string("Full"));
    if (type != "Full" && type != "Diff") {
        throw std::invalid_argument(fmt::format("unknown variant `{}`", type));
    }
    if (!machine_.loaded()) {
        return fault(not_before_boot);
    }
    // With a log of writes it would hold what that says; the stand-in keeps none.
    if (type == "Diff" && (!profile_.has_resident_diff() || machine_.logs_writes())) {
        return fault("Create snapshot error: Cannot create diff snapshots: Diff snapshots are not "
                     "allowed on uVMs with dirty page tracking disabled.");
    }
    auto done = machine_.create_snapshot(state_path, memory_path, type == "Diff");
    return done ? HttpResponse{} : fault("Create snapshot error: " + done.error());
}

HttpResponse Api::patch(const HttpRequest& request, const json& body) {
    if (request.path != "/vm") {
        return bad_path(request);
    }
    only_keys(body, {"state"});
    const auto state = body.at("state").get<std::string>();
    if (state != "Paused" && state != "Resumed") {
        throw std::invalid_argument(
            fmt::format("unknown variant `{}`, expected `Paused` or `Resumed`", state)
        );
    }
    if (!machine_.loaded()) {
        return fault(not_before_boot);
    }
    auto done = state == "Paused" ? machine_.pause() : machine_.resume();
    return done ? HttpResponse{} : fault("Internal VMM error: " + done.error());
}

} // namespace thaw::standin
