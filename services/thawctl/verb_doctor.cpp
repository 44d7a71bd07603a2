// SPDX-License-Identifier: MIT

#include "doctor.hpp"
#include "exit_codes.hpp"
#include "verbs.hpp"

#include <algorithm>

namespace thaw::ctl {

namespace {

Color color_of(Verdict verdict) {
    switch (verdict) {
    case Verdict::Ok:
        return Color::Good;
    case Verdict::Note:
        return Color::Faint;
    case Verdict::Warning:
        return Color::Warning;
    case Verdict::Failed:
        return Color::Bad;
    }
    return Color::None;
}

std::string format_findings(const Findings& findings, bool colors) {
    std::string text;
    for (const auto& finding : findings) {
        const auto word = fmt::format("{:>7}", verdict_word(finding.verdict));
        text += fmt::format(
            "{}  {}: {}\n", colors ? colored(color_of(finding.verdict), word) : word,
            printable(finding.check), printable(finding.detail)
        );
        if (!finding.remedy.empty())
            text += fmt::format("         -> {}\n", printable(finding.remedy));
    }
    return text;
}

} // namespace

const char* verdict_word(Verdict verdict) {
    switch (verdict) {
    case Verdict::Ok:
        return "ok";
    case Verdict::Note:
        return "note";
    case Verdict::Warning:
        return "warning";
    case Verdict::Failed:
        return "failed";
    }
    return "failed";
}

Result<int> verb_doctor(const std::string& image_root, const OutputOptions& options) {
    Findings findings;
    check_kernel(findings);
    check_userfaultfd(findings);
    check_io_uring(findings);
    check_memory(findings);
    check_host(findings);
    check_images(image_root, findings);
    auto client = Client::open(options);
    check_bus(client, findings);
    if (client) check_units(*client, findings);
    if (client) check_reserves(*client, findings);

    const auto failed = std::ranges::count(findings, Verdict::Failed, &Finding::verdict);
    const auto warnings = std::ranges::count(findings, Verdict::Warning, &Finding::verdict);
    if (options.json == JsonMode::Off) {
        auto text = format_findings(findings, wants_color(1));
        if (options.legend)
            text += fmt::format(
                "\n{} checks, {} failed, {} warnings.\n", findings.size(), failed, warnings
            );
        print_text(text, options);
    } else {
        auto rows = nlohmann::json::array();
        for (const auto& finding : findings)
            rows.push_back(
                {{"check", finding.check},
                 {"verdict", verdict_word(finding.verdict)},
                 {"detail", finding.detail},
                 {"remedy", finding.remedy}}
            );
        print_json(rows, options.json);
    }
    return failed == 0 ? kExitOk : kExitFailure;
}

} // namespace thaw::ctl
