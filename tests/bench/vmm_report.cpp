// SPDX-License-Identifier: MIT
#include "vmm_report.hpp"

#include "config/json.hpp"
#include "core/file.hpp"
#include "core/scm.hpp"

#include <systemd/sd-bus.h>

#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <span>

namespace thaw::bench {

namespace {

// The stand-in closes after the answer when asked to, so the body ends with the stream.
Result<std::string> get_over_unix(const std::string& socket_path, const std::string& target) {
    THAW_TRY(const auto socket, connect_unix(socket_path, SOCK_STREAM, false));
    THAW_CHECK(write_all(
        socket.get(),
        fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", target)
    ));
    THAW_TRY(auto answer, read_fd(socket.get()));
    const auto body = answer.find("\r\n\r\n");
    if (!answer.starts_with("HTTP/1.1 200") || body == std::string::npos)
        return fail(EPROTO, "{} answered {}", target, answer.substr(0, answer.find('\r')));
    return answer.substr(body + 4);
}

std::uint64_t unit_timestamp(Bus& bus, const std::string& path, const char* property) {
    std::uint64_t value = 0;
    sd_bus_get_property_trivial(
        bus.get(), "org.freedesktop.systemd1", path.c_str(), "org.freedesktop.systemd1.Unit",
        property, nullptr, 't', &value
    );
    return value;
}

} // namespace

Result<VmmReport> read_vmm_report(const std::string& api_socket) {
    THAW_TRY(const auto text, get_over_unix(api_socket, "/standin/report"));
    THAW_TRY(const auto document, JsonDocument::parse(text));
    const auto root = document.root();
    VmmReport report;
    THAW_TRY(report.exec_to_api, root.unsigned_number("exec_to_api_us"));
    THAW_TRY(report.load, root.unsigned_number("load_us"));
    return report;
}

Microseconds unit_start_time(Bus& bus, const std::string& unit) {
    const auto path = encode_object_path("/org/freedesktop/systemd1/unit", unit);
    const auto begin = unit_timestamp(bus, path, "InactiveExitTimestampMonotonic");
    const auto end = unit_timestamp(bus, path, "ActiveEnterTimestampMonotonic");
    return end > begin ? end - begin : 0;
}

} // namespace thaw::bench
