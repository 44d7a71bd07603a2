// SPDX-License-Identifier: MIT

// The completions, in real shells, offer what the parser knows and what the daemons know.

#include "command_line.hpp"
#include "core/file.hpp"
#include "core/text.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>

namespace thaw::ctl {
namespace {

using Words = std::set<std::string>;

struct Shell {
    const char* name;
    const char* completion; // its file
};

// NOLINTNEXTLINE(readability-identifier-naming): googletest's
void PrintTo(const Shell& shell, std::ostream* out) {
    *out << shell.name;
}

class Completion : public ::testing::TestWithParam<Shell> {
protected:
    void SetUp() override {
        const auto shell = fmt::format("command -v {} >/dev/null", GetParam().name);
        if (std::system(shell.c_str()) != 0) GTEST_SKIP() << "no " << GetParam().name;
        // Completions ask a stand-in, which knows one name of each kind.
        ASSERT_EQ(symlink(THAWCTL_SHELLS "/thawctl.sh", (bin_.path() + "/thawctl").c_str()), 0);
    }
    // What the shell offers at the end of each line.
    std::vector<Words> offered(const std::vector<std::string>& lines) const {
        const auto [name, completion] = GetParam();
        const auto input = bin_.path() + "/lines";
        EXPECT_TRUE(write_file_atomic(input, fmt::format("{}\n", fmt::join(lines, "\n"))));
        const auto command = fmt::format(
            "PATH={}:$PATH {} {}/offer.{} {}/{} <{}", bin_.path(), name, THAWCTL_SHELLS, name,
            THAWCTL_COMPLETIONS, completion, input
        );
        const auto close = [](FILE* pipe) { pclose(pipe); };
        const std::unique_ptr<FILE, decltype(close)> pipe(popen(command.c_str(), "r"), close);
        std::vector<Words> answers;
        std::array<char, 16384> buffer{};
        while (pipe && fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr) {
            // Where nothing else fits zsh offers the options; the others wait for a dash.
            const bool dash = answers.size() < lines.size() && lines[answers.size()].ends_with("-");
            Words words;
            for (auto& word : split_words(buffer.data()))
                if (dash || !word.starts_with('-')) words.insert(std::move(word));
            answers.push_back(std::move(words));
        }
        EXPECT_EQ(answers.size(), lines.size());
        answers.resize(lines.size());
        return answers;
    }
    void expect(const std::vector<std::pair<std::string, Words>>& cases) const {
        std::vector<std::string> lines;
        for (const auto& row : cases)
            lines.push_back("thawctl " + row.first);
        const auto answers = offered(lines);
        for (std::size_t i = 0; i < cases.size(); ++i)
            EXPECT_EQ(answers[i], cases[i].second) << "after: " << lines[i];
    }

    test::TemporaryDirectory bin_;
};

Words verbs_of(const CLI::App& app) {
    Words names;
    for (const auto* verb : app.get_subcommands([](const CLI::App*) { return true; }))
        names.insert(verb->get_name());
    return names;
}

// Long options of a verb that its help shows, the global ones included.
Words options_of(const CLI::App& global, const CLI::App& verb) {
    Words names;
    for (const auto* app : {&global, &verb})
        for (const auto* option : app->get_options())
            if (!option->get_group().empty())
                for (const auto& name : option->get_lnames())
                    names.insert("--" + name);
    return names;
}

TEST_P(Completion, KnowsEveryVerbAndOption) {
    CLI::App app("", "thawctl");
    CommandLine line;
    describe(app, line);
    std::vector<std::pair<std::string, Words>> cases{{"", verbs_of(app)}};
    for (const auto& name : verbs_of(app)) {
        const auto* verb = app.get_subcommand(name);
        const auto inner = verbs_of(*verb);
        if (inner.empty()) cases.emplace_back(name + " --", options_of(app, *verb));
        if (!inner.empty()) cases.emplace_back(name + " ", inner);
        for (const auto& word : inner)
            cases.emplace_back(
                fmt::format("{} {} --", name, word), options_of(app, *verb->get_subcommand(word))
            );
    }
    ASSERT_GT(cases.size(), 30U);
    expect(cases);
}

TEST_P(Completion, OffersValues) {
    expect({
        {"list --json ", {"short", "pretty", "off"}},
        {"restore --memory-backend ", {"auto", "uffd", "file"}},
        {"policy ", {"MemoryBackend", "Prefetch", "Recording"}},
        {"policy MemoryBackend ", {"auto", "uffd", "file"}},
        {"policy Prefetch ", {"yes", "no"}},
        {"prefetch web ", {"yes", "no"}},
        {"image import --page-size ", {"4K", "2M"}},
        {"share add --on-loss ", {"ignore", "stop"}},
        {"share open --cache ", {"auto", "always", "never", "metadata"}},
        {"share open --sandbox n", {"namespace", "none"}},
    });
}

TEST_P(Completion, OffersTheNamesThatAreThere) {
    expect({
        {"stop ", {"web"}},
        {"snapshot ", {"web"}},
        {"complete ", {"web"}},
        {"quiesce ", {"web"}},
        {"status ", {"web"}},
        {"top ", {"web"}},
        {"pause ", {"web"}},
        {"prefetch ", {"web"}},
        {"cancel ", {"7"}},
        {"restore new ", {"small"}},
        {"image show ", {"small"}},
        {"image rm ", {"small"}},
        {"image record ", {"small"}},
        {"image import new --base ", {"small"}},
        {"share add ", {"web"}},
        {"share status ", {"sharer"}},
        {"share remove ", {"sharer"}},
        {"share raise-limit ", {"sharer"}},
        {"cache warm ", {"web"}},
        {"rootfs status ", {"overlaid"}},
        {"rootfs export ", {"overlaid"}},
        {"reserve release ", {"volume"}},
        {"reserve status ", {}},
        {"share list ", {}},
        {"doctor ", {}},
    });
}

TEST_P(Completion, FoldersWhereOneIsNeeded) {
    ASSERT_EQ(mkdir((bin_.path() + "/one-folder").c_str(), 0755), 0);
    const auto typed = bin_.path() + "/one";
    for (const auto& words : offered(
             {"thawctl share open " + typed, "thawctl share add web tag " + typed,
              "thawctl cache warm web " + typed}
         )) {
        ASSERT_EQ(words.size(), 1U);
        EXPECT_TRUE(words.begin()->find("one-folder") != std::string::npos) << *words.begin();
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shells, Completion,
    ::testing::Values(
        Shell{"bash", "thawctl.bash"}, Shell{"zsh", "_thawctl"}, Shell{"fish", "thawctl.fish"}
    ),
    [](const auto& shell) { return std::string(shell.param.name); }
);

} // namespace
} // namespace thaw::ctl
