// SPDX-License-Identifier: MIT

#include "job_report.hpp"

#include "core/names.hpp"
#include "exit_codes.hpp"

namespace thaw::ctl {

namespace {

nlohmann::json outcome_json(const JobOutcome& outcome) {
    return {
        {"id", outcome.id},
        {"instance", outcome.instance},
        {"result", outcome.result},
        {"error_name", outcome.error_name},
        {"error_message", outcome.error_message},
        {"outcome", outcome.properties.text("Outcome")},
        {"backend", outcome.properties.text("Backend")},
        {"backend_reason", outcome.properties.text("BackendReason")},
        {"elapsed_usec", outcome.elapsed},
    };
}

// What to look at next, for a job that did not end well.
void print_where_to_look(const std::string& name) {
    print_hint(fmt::format(
        "See \"journalctl THAW_INSTANCE={}\" and \"systemctl status '{}'\" for details.", name,
        vmm_unit(name)
    ));
}

} // namespace

Result<int> print_queued(Client& client, const BusMessage& call, const OutputOptions& options) {
    THAW_TRY(auto reply, client.call(call));
    std::uint32_t id = 0;
    const char* path = nullptr;
    THAW_CHECK(reply.read("uo", &id, &path));
    if (options.json != JsonMode::Off)
        print_json({{"id", id}, {"job", path}}, options.json);
    else
        fmt::print("Queued job {}.\n", id);
    return kExitOk;
}

int conclude(
    const JobOutcome& outcome, const std::string& what, const std::string& name,
    const OutputOptions& options
) {
    if (options.json != JsonMode::Off) print_json(outcome_json(outcome), options.json);
    if (outcome.result == "done") return kExitOk;
    const auto error = job_error(outcome.error_name, outcome.error_message, outcome.result);
    print_error(fmt::format("{} {}: {}", what, outcome.result, error.message()));
    if (outcome.result != "canceled" && !name.empty()) print_where_to_look(name);
    return exit_code_of(error);
}

} // namespace thaw::ctl
