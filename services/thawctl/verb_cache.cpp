// SPDX-License-Identifier: MIT

// cache warm: runs wholly as the caller; no daemon is asked for anything.

#include "config/ini.hpp"
#include "core/names.hpp"
#include "exit_codes.hpp"
#include "guest_script.hpp"
#include "interrupt.hpp"
#include "progress_bar.hpp"
#include "tar_stream.hpp"
#include "transport.hpp"
#include "verbs.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdlib>

namespace thaw::ctl {

namespace {

constexpr const char* kDefaultTransport = "ssh -o BatchMode=yes -o ConnectTimeout=10 root@%v";
// A guest that unpacks onto a slow disk may pause for a while.
constexpr Microseconds kDefaultSilence = 60 * kUsecPerSec;

// Exit codes follow from these: not found, not available, timeout, failure.
Error unreachable(const std::string& vm, const std::string& why) {
    return {EHOSTUNREACH, fmt::format("the guest of \"{}\" cannot be reached: {}", vm, why)};
}

Result<std::string> configured_transport(const CacheArguments& arguments) {
    if (!arguments.transport.empty()) return arguments.transport;
    const char* variable = std::getenv("THAWCTL_TRANSPORT"); // NOLINT(concurrency-mt-unsafe)
    if (variable != nullptr && *variable != '\0') return std::string(variable);
    std::string transport;
    THAW_TRY(
        const auto warnings, read_config(
                                 ConfigLocation::of_daemon("thawctl"),
                                 {{"Cache", "Transport", config_string(&transport)}}
                             )
    );
    for (const auto& warning : warnings)
        print_warning(fmt::format("{}:{}: {}", warning.file, warning.line, warning.text));
    return transport.empty() ? kDefaultTransport : transport;
}

// What goes to the guest as one line each must be one line.
Result<std::string> checked_destination(std::string path) {
    while (path.size() > 1 && path.ends_with('/'))
        path.pop_back();
    if (!path.starts_with('/') || path == "/")
        return fail(EINVAL, "destination '{}': an absolute path in the guest is needed", path);
    for (const char c : path)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
            return fail(EINVAL, "the destination holds a control character");
    for (const char* part : {"/../", "/./", "//"})
        if ((path + "/").find(part) != std::string::npos)
            return fail(EINVAL, "destination '{}': '{}' is not allowed", path, part);
    return path;
}

Result<std::string> make_token() {
    std::array<unsigned char, 16> bytes{};
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return fail_errno(errno, "getrandom");
    return hex_encode(bytes.data(), bytes.size());
}

struct Warming {
    std::string vm;
    std::string destination;
    std::string token;
    bool refresh = false;
    Fd source;
    std::vector<std::string> words;
    Microseconds silence = 0;
};

struct WarmOutcome {
    bool present = false; // nothing had to be done
    TarOutcome tar;
};

Result<Warming> prepare(const CacheArguments& arguments) {
    if (!is_valid_vm_name(arguments.vm)) return fail(EINVAL, "'{}' is no VM name", arguments.vm);
    Warming warming;
    warming.vm = arguments.vm;
    warming.refresh = arguments.refresh;
    THAW_TRY(warming.destination, checked_destination(arguments.destination));
    auto source = open_source(arguments.source);
    if (!source) return std::unexpected(std::move(source).error().with_context("source"));
    warming.source = std::move(*source);
    THAW_TRY(const auto transport, configured_transport(arguments));
    THAW_TRY(warming.words, expand_transport(transport, arguments.vm));
    warming.silence = kDefaultSilence;
    if (!arguments.timeout.empty()) {
        THAW_TRY(warming.silence, parse_timespan(arguments.timeout));
    }
    THAW_TRY(warming.token, make_token());
    return warming;
}

// Says what is wanted and waits for the guest's first word. Whatever goes wrong before that word
// means that there is no guest.
Result<std::string> greet(Transport& transport, const Warming& warming) {
    const auto lines = fmt::format(
        "{}\n{}\n{}\n", warming.destination, warming.refresh ? "refresh" : "warm", warming.token
    );
    auto sent = transport.write(lines);
    if (!sent && sent.error().code() != EPIPE) {
        if (sent.error().code() == ECANCELED) return std::unexpected(std::move(sent).error());
        return std::unexpected(unreachable(warming.vm, sent.error().message()));
    }
    auto line = transport.read_line(guest::kPrefix);
    if (!line) {
        if (line.error().code() == ECANCELED) return std::unexpected(std::move(line).error());
        return std::unexpected(unreachable(warming.vm, line.error().message()));
    }
    if (auto& text = *line) return std::move(*text);
    const auto end = transport.wait();
    return std::unexpected(unreachable(
        warming.vm, fmt::format(
                        "{} ended with {} before the guest answered", warming.words[0],
                        end ? *end : end.error().message()
                    )
    ));
}

Error lost(const Warming& warming, const std::string& why) {
    return {
        ECONNRESET,
        fmt::format("lost the guest of \"{}\" before the copy was complete: {}", warming.vm, why)
    };
}

// The guest's last word on a stream that ended well or badly on our side.
Result<> conclude(Transport& transport, const Warming& warming, const Result<TarOutcome>& sent) {
    // What the source or the user did wrong is the cause, whatever the guest says to a cut stream.
    const bool guest_stopped = !sent && sent.error().code() == EPIPE;
    if (!sent && !guest_stopped) return std::unexpected(sent.error());
    transport.close_input();
    auto line = transport.read_line(guest::kPrefix);
    if (!line && line.error().code() == ECANCELED) return std::unexpected(line.error());
    if (!line) return std::unexpected(lost(warming, line.error().message()));
    const auto& word = *line;
    if (!word) {
        const auto end = transport.wait();
        return std::unexpected(lost(warming, end ? *end : end.error().message()));
    }
    // Its clean-up is over when it has ended; the status says no more than the word.
    if (const auto end = transport.wait(); !end && end.error().code() == ECANCELED)
        return std::unexpected(end.error());
    if (sent && *word == guest::kDone) return {};
    return fail(EIO, "the guest of \"{}\": {}", warming.vm, *word);
}

Result<WarmOutcome> warm(const Warming& warming, const std::string& label) {
    const InterruptGuard guard;
    const auto go_on = [] { return !was_interrupted(); };
    ProgressBar bar;
    auto started = Transport::start(warming.words, guest::kCommand, warming.silence, go_on);
    if (!started) return std::unexpected(unreachable(warming.vm, started.error().message()));
    auto& transport = *started;
    THAW_TRY(const auto answer, greet(transport, warming));
    WarmOutcome outcome;
    if (answer == guest::kPresent) {
        outcome.present = true;
        return outcome;
    }
    if (answer == guest::kOccupied)
        return fail(
            EEXIST, "{} in the guest of \"{}\" holds something that no earlier run made",
            warming.destination, warming.vm
        );
    if (answer != guest::kReady) return fail(EIO, "the guest of \"{}\": {}", warming.vm, answer);
    THAW_TRY(const auto totals, measure_tree(warming.source.get(), go_on));
    const auto begin = now_monotonic();
    TarOptions options;
    options.sink = [&](std::span<const std::byte> bytes) { return transport.write(bytes); };
    options.progress = [&](const TreeTotals& done) {
        const auto elapsed = std::max<Microseconds>(now_monotonic() - begin, 1);
        const auto rate =
            static_cast<double>(done.bytes) * kUsecPerSec / static_cast<double>(elapsed);
        bar.show(
            // Many small files count as well as few large ones.
            static_cast<double>(done.bytes + done.files * 512) /
                static_cast<double>(std::max<std::uint64_t>(totals.bytes + totals.files * 512, 1)),
            fmt::format(
                "{}  {} files  {}/s", label, done.files,
                format_size(static_cast<std::uint64_t>(rate))
            )
        );
        return go_on();
    };
    options.end_member = guest::kEndMember;
    options.end_content = warming.token + "\n";
    options.omit = {guest::kEndMember, guest::kSentinel};
    auto sent = stream_tree(warming.source.get(), options);
    THAW_CHECK(conclude(transport, warming, sent));
    outcome.tar = *sent;
    return outcome;
}

int report(
    const CacheArguments& arguments, const WarmOutcome& outcome, Microseconds elapsed,
    const OutputOptions& options
) {
    const char* result = "warmed";
    if (arguments.refresh) result = "refreshed";
    if (outcome.present) result = "present";
    if (options.json != JsonMode::Off) {
        print_json(
            {{"vm", arguments.vm},
             {"source", arguments.source},
             {"destination", arguments.destination},
             {"result", result},
             {"files", outcome.tar.done.files},
             {"bytes", outcome.tar.done.bytes},
             {"skipped", outcome.tar.skipped},
             {"elapsed_usec", elapsed}},
            options.json
        );
        return kExitOk;
    }
    if (outcome.present) {
        fmt::print(
            "{} of \"{}\" is warm already (--refresh replaces it).\n",
            printable(arguments.destination), arguments.vm
        );
        return kExitOk;
    }
    fmt::print(
        "Copied {} files, {}, to {} of \"{}\".\n", outcome.tar.done.files,
        format_size(outcome.tar.done.bytes), printable(arguments.destination), arguments.vm
    );
    if (outcome.tar.skipped != 0)
        print_warning(
            fmt::format("{} sockets, pipes and devices were left out", outcome.tar.skipped)
        );
    return kExitOk;
}

} // namespace

Result<int> verb_cache_warm(const CacheArguments& arguments, const OutputOptions& options) {
    auto warming = prepare(arguments);
    if (!warming) {
        if (warming.error().code() == EINVAL) {
            print_error(warming.error().message());
            return kExitUsage;
        }
        return std::unexpected(std::move(warming).error());
    }
    const auto begin = now_monotonic();
    auto outcome = warm(*warming, "Warming " + arguments.destination);
    if (!outcome) return std::unexpected(std::move(outcome).error());
    return report(arguments, *outcome, now_monotonic() - begin, options);
}

} // namespace thaw::ctl
