// SPDX-License-Identifier: MIT

// The bash completion, in a real bash, offers what the parser knows.

#include "command_line.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>
#include <set>
#include <sstream>

namespace thaw::ctl {
namespace {

// What bash offers after `words`, the last of which is being typed.
std::set<std::string> offered(const std::string& words) {
    const auto script = fmt::format(
        "bash -c 'thawctl() {{ :; }}; source {}; COMP_WORDS=(thawctl {}); "
        "COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _thawctl; printf \"%s \" \"${{COMPREPLY[@]}}\"'",
        THAWCTL_COMPLETION, words
    );
    const auto close = [](FILE* pipe) { pclose(pipe); };
    const std::unique_ptr<FILE, decltype(close)> pipe(popen(script.c_str(), "r"), close);
    std::string text;
    std::array<char, 4096> buffer{};
    while (pipe && fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr)
        text += buffer.data();
    std::istringstream stream(text);
    std::set<std::string> found;
    for (std::string word; stream >> word;)
        found.insert(word);
    return found;
}

std::set<std::string> verbs_of(const CLI::App& app) {
    std::set<std::string> names;
    for (const auto* verb : app.get_subcommands([](const CLI::App*) { return true; }))
        names.insert(verb->get_name());
    return names;
}

// Long options of a verb that its help shows, the global ones included.
std::set<std::string> options_of(const CLI::App& global, const CLI::App& verb) {
    std::set<std::string> names;
    for (const auto* app : {&global, &verb})
        for (const auto* option : app->get_options())
            if (!option->get_group().empty())
                for (const auto& name : option->get_lnames())
                    names.insert("--" + name);
    return names;
}

TEST(Completion, KnowsEveryVerbAndOption) {
    CLI::App app("", "thawctl");
    CommandLine line;
    describe(app, line);
    EXPECT_EQ(offered("\"\""), verbs_of(app));
    for (const auto& name : verbs_of(app)) {
        const auto* verb = app.get_subcommand(name);
        const auto inner = verbs_of(*verb);
        if (inner.empty()) {
            EXPECT_EQ(offered(name + " --"), options_of(app, *verb)) << name;
            continue;
        }
        EXPECT_EQ(offered(name + " \"\""), inner);
        for (const auto& word : inner)
            EXPECT_EQ(
                offered(name + " " + word + " --"), options_of(app, *verb->get_subcommand(word))
            ) << name
              << " " << word;
    }
}

TEST(Completion, OffersValues) {
    EXPECT_EQ(offered("list --json \"\""), (std::set<std::string>{"short", "pretty", "off"}));
    EXPECT_EQ(offered("policy Prefetch \"\""), (std::set<std::string>{"yes", "no"}));
    EXPECT_EQ(
        offered("share open --cache \"\""),
        (std::set<std::string>{"auto", "always", "never", "metadata"})
    );
}

} // namespace
} // namespace thaw::ctl
