// SPDX-License-Identifier: MIT
#pragma once

// What the two halves of the fake systemd share.

#include "fakes/fake_systemd.hpp"

namespace thaw::fakes {

namespace systemd1 {
inline constexpr const char* kName = "org.freedesktop.systemd1";
inline constexpr const char* kPath = "/org/freedesktop/systemd1";
inline constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
inline constexpr const char* kUnitInterface = "org.freedesktop.systemd1.Unit";
inline constexpr const char* kServiceInterface = "org.freedesktop.systemd1.Service";
inline constexpr const char* kJobInterface = "org.freedesktop.systemd1.Job";
inline constexpr const char* kUnitPrefix = "/org/freedesktop/systemd1/unit";
inline constexpr const char* kJobPrefix = "/org/freedesktop/systemd1/job";
inline constexpr std::string_view kNoSuchUnit = "org.freedesktop.systemd1.NoSuchUnit";

inline std::string unit_path(const std::string& name) {
    return encode_object_path(kUnitPrefix, name);
}
} // namespace systemd1

struct FakeSystemd::Job {
    std::uint32_t id = 0;
    std::string unit;
    bool start = false;
    FakePlan plan;
    BusMessage call; // empty once answered
    std::string path() const { return fmt::format("{}/{}", systemd1::kJobPrefix, id); }
    Result<> append_unit(BusMessage& reply) const {
        return reply.append("(so)", unit.c_str(), systemd1::unit_path(unit).c_str());
    }
    Result<> append_id(BusMessage& reply) const { return reply.append("u", id); }
};

} // namespace thaw::fakes
