// SPDX-License-Identifier: MIT
#include "vmm_report.hpp"

#include "config/json.hpp"
#include "core/file.hpp"
#include "core/scm.hpp"
#include "core/text.hpp"

#include <systemd/sd-bus.h>

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

namespace thaw::bench {

namespace {

// The length that the head of the answer announces.
Result<std::size_t> content_length(std::string_view head) {
    constexpr std::string_view kField = "Content-Length: ";
    const auto begin = head.find(kField);
    if (begin == std::string_view::npos) return fail(EPROTO, "an answer without a length");
    const auto value = head.substr(begin + kField.size());
    THAW_TRY(const auto length, parse_unsigned(value.substr(0, value.find('\r')), 1 << 20));
    return static_cast<std::size_t>(length);
}

// The body of one answer; the server keeps the connection open.
Result<std::string> get_over_unix(const std::string& socket_path, const std::string& target) {
    THAW_TRY(const auto socket, connect_unix(socket_path, SOCK_STREAM, false));
    THAW_CHECK(
        write_all(socket.get(), fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", target))
    );
    std::string answer;
    std::array<char, 4096> piece{};
    for (;;) {
        const auto head = answer.find("\r\n\r\n");
        if (head != std::string::npos) {
            THAW_TRY(const auto length, content_length(std::string_view(answer).substr(0, head)));
            if (!answer.starts_with("HTTP/1.1 200"))
                return fail(EPROTO, "{} answered {}", target, answer.substr(0, answer.find('\r')));
            if (answer.size() >= head + 4 + length) return answer.substr(head + 4, length);
        }
        const auto got = ::read(socket.get(), piece.data(), piece.size());
        if (got <= 0) return fail_errno(got < 0 ? errno : ECONNRESET, "read {}", socket_path);
        answer.append(piece.data(), static_cast<std::size_t>(got));
    }
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
