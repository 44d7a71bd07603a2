// SPDX-License-Identifier: MIT
#include "vmm_requests.hpp"

#include "api/restore1.hpp"
#include "config/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace thaw::restore {

namespace {

constexpr std::size_t kQuotedBody = 400;
constexpr long kFirstSuccess = 200;
constexpr long kFirstRedirect = 300;

// What goes into an error's text and the journal in one line.
std::string printable(std::string_view text) {
    std::string line(text.substr(0, kQuotedBody));
    std::replace_if(
        line.begin(), line.end(),
        [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, ' '
    );
    return line;
}

} // namespace

std::string load_body(const LoadRequest& request) {
    nlohmann::json body{
        {"snapshot_path", request.state_path},
        {"mem_backend",
         {{"backend_type", request.backend == Backend::Uffd ? "Uffd" : "File"},
          {"backend_path", request.backend_path}}},
        {"resume_vm", false},
    };
    // Older VMMs refuse members that they do not know.
    for (const auto& [interface, device] : request.network_overrides)
        body["network_overrides"].push_back({{"iface_id", interface}, {"host_dev_name", device}});
    return json_dump(body);
}

std::string vm_state_body(VmState state) {
    return json_dump({{"state", state == VmState::Paused ? "Paused" : "Resumed"}});
}

std::string refusal_text(const HttpReply& reply) {
    if (auto document = JsonDocument::parse(reply.body))
        if (auto text = document->root().string("fault_message")) return printable(*text);
    return fmt::format("HTTP status {}: {}", reply.status, printable(reply.body));
}

std::optional<Failure> judge_reply(
    const Result<HttpReply>& reply, std::string_view what, std::string_view refused,
    std::string_view expired
) {
    if (reply && reply->status >= kFirstSuccess && reply->status < kFirstRedirect)
        return std::nullopt;
    if (reply)
        return Failure{
            .name = refused, .message = fmt::format("{}: {}", what, refusal_text(*reply))
        };
    const auto& error = reply.error();
    const bool late = error.code() == ETIMEDOUT;
    return Failure{
        .name = late ? expired : refused,
        .message = fmt::format("{}: {}", what, error.message()),
        .timed_out = late,
        .connection_lost =
            error.code() == ECONNRESET || error.code() == ECONNREFUSED || error.code() == ENOENT,
    };
}

bool says_running(const HttpReply& reply) {
    if (reply.status != kFirstSuccess) return false;
    auto document = JsonDocument::parse(reply.body);
    if (!document) return false;
    auto state = document->root().string("state");
    return state && *state == "Running";
}

} // namespace thaw::restore
