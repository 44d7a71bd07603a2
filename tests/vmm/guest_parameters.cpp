// SPDX-License-Identifier: MIT
#include "guest_parameters.hpp"

#include <fmt/format.h>

#include <functional>
#include <map>

namespace thaw::standin {
namespace {

using nlohmann::json;

GuestParameters::Pattern pattern_of(const json& value) {
    static const std::map<std::string, GuestParameters::Pattern> names = {
        {"none", GuestParameters::Pattern::none},
        {"sequential", GuestParameters::Pattern::sequential},
        {"random", GuestParameters::Pattern::random},
        {"working-set", GuestParameters::Pattern::working_set}
    };
    return names.at(value.get<std::string>());
}

std::vector<GuestParameters::TraceStep> trace_of(const json& value) {
    std::vector<GuestParameters::TraceStep> steps;
    for (const json& step : value) {
        const auto op = step.at(0).get<std::string>();
        if (op != "r" && op != "w" && op != "d") {
            throw std::out_of_range("trace operation");
        }
        steps.push_back(
            {op[0], step.at(1).get<std::uint64_t>(),
             step.size() > 2 ? step.at(2).get<std::uint64_t>() : 1}
        );
    }
    return steps;
}

std::string kvm_of(const json& value) {
    auto mode = value.get<std::string>();
    if (mode != "off" && mode != "auto" && mode != "require") {
        throw std::out_of_range("kvm mode");
    }
    return mode;
}

using Setter = std::function<void(GuestParameters&, const json&)>;

const std::map<std::string, Setter>& setters() {
    static const std::map<std::string, Setter> table = {
        {"pattern", [](auto& p, const json& v) { p.pattern = pattern_of(v); }},
        {"vcpus", [](auto& p, const json& v) { v.get_to(p.vcpus); }},
        {"working_set_percent", [](auto& p, const json& v) { v.get_to(p.working_set_percent); }},
        {"write_percent", [](auto& p, const json& v) { v.get_to(p.write_percent); }},
        {"touches", [](auto& p, const json& v) { v.get_to(p.touches); }},
        {"rate_per_second", [](auto& p, const json& v) { v.get_to(p.rate_per_second); }},
        {"drop_every", [](auto& p, const json& v) { v.get_to(p.drop_every); }},
        {"drop_pages", [](auto& p, const json& v) { v.get_to(p.drop_pages); }},
        {"seed", [](auto& p, const json& v) { v.get_to(p.seed); }},
        {"check", [](auto& p, const json& v) { v.get_to(p.check); }},
        {"kvm", [](auto& p, const json& v) { p.kvm = kvm_of(v); }},
        {"kvm_batch_pages", [](auto& p, const json& v) { v.get_to(p.kvm_batch_pages); }},
        {"trace", [](auto& p, const json& v) { p.trace = trace_of(v); }},
        {"trace_repeat", [](auto& p, const json& v) { v.get_to(p.trace_repeat); }},
    };
    return table;
}

} // namespace

Result<void> update_parameters(GuestParameters& parameters, const json& object) {
    if (!object.is_object()) {
        return fail("guest: not an object");
    }
    for (const auto& [key, value] : object.items()) {
        const auto setter = setters().find(key);
        if (setter == setters().end()) {
            return fail(fmt::format("guest: unknown key '{}'", key));
        }
        try {
            setter->second(parameters, value);
        } catch (const std::exception& error) {
            return fail(fmt::format("guest: {}: {}", key, error.what()));
        }
    }
    if (parameters.vcpus > 64 || parameters.write_percent > 100 || parameters.drop_pages == 0 ||
        parameters.kvm_batch_pages == 0) {
        return fail("guest: value out of range");
    }
    return {};
}

} // namespace thaw::standin
