// SPDX-License-Identifier: MIT

// The real thawctl without any bus: usage errors, help, and the verbs of images.

#include "core/file.hpp"
#include "program.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

namespace thaw::ctl {
namespace {

using testing::has;
using testing::ProgramOptions;
using testing::ProgramResult;

ProgramResult run(const std::vector<std::string>& words, ProgramOptions options = {}) {
    options.silent_bus = true;
    return testing::run_thawctl(nullptr, words, options);
}

TEST(Command, UsageErrors) {
    const std::vector<std::vector<std::string>> wrong = {
        {},
        {"frobnicate"},
        {"restore"},
        {"restore", "web"},
        {"restore", "web", "base", "--from-config"},
        {"restore", "../web", "base"},
        {"restore", "web", "base", "--memory-backend=ram"},
        {"restore", "web", "base", "--prefetch=perhaps"},
        {"restore", "web", "base", "--load-timeout=soon"},
        {"restore", "web", "base", "--network-override=eth0"},
        {"list", "--json=xml"},
        {"list", "superfluous"},
        {"cancel", "x"},
        {"cancel", "4294967296"},
        {"image"},
        {"image", "import", "base"},
        {"image", "import", "base", "--state=s", "--memory=m", "--page-size=8K"},
        {"image", "import", "base", "--state=s", "--memory=m", "--drive=x"},
        {"image", "import", "x", "--state=s", "--memory=m", "--base=b", "--pages=p", "--rootfs=r"},
    };
    for (const auto& words : wrong) {
        const auto result = run(words);
        EXPECT_EQ(result.exit_code, 2) << (words.empty() ? "" : words.back()) << result.err;
        EXPECT_EQ(result.out, "");
        EXPECT_NE(result.err, "");
    }
}

TEST(Command, HelpAndVersion) {
    for (const auto& words : std::vector<std::vector<std::string>>{
             {"--help"}, {"restore", "--help"}, {"image", "--help"}, {"image", "import", "-h"}
         }) {
        const auto result = run(words);
        EXPECT_EQ(result.exit_code, 0);
        EXPECT_TRUE(has(result.out, "Usage: thawctl")) << result.out;
    }
    EXPECT_TRUE(has(run({"--help"}).out, "Examples:"));
    EXPECT_TRUE(run({"--version"}).out.starts_with("thawctl 0."));
}

class ImageVerbs : public ::testing::Test {
protected:
    void SetUp() override {
        std::string name = ::testing::TempDir() + "thawctl-XXXXXX";
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        folder_ = name;
        ASSERT_TRUE(make_directories(folder_ + "/images"));
        ASSERT_TRUE(write_file_atomic(folder_ + "/state", "state"));
        std::string memory(4 << 20, '\0');
        memory[4096] = 'x';
        ASSERT_TRUE(write_file_atomic(folder_ + "/memory", memory));
    }
    void TearDown() override { EXPECT_TRUE(remove_tree(folder_)); }
    ProgramResult image(std::vector<std::string> words, const ProgramOptions& options = {}) {
        words.insert(words.begin(), {"--image-root", folder_ + "/images", "image"});
        return run(words, options);
    }
    ProgramResult import(const std::string& name, std::vector<std::string> more = {}) {
        std::vector<std::string> words{"import",           name,       "--state",
                                       folder_ + "/state", "--memory", folder_ + "/memory"};
        words.insert(words.end(), more.begin(), more.end());
        return image(words);
    }
    std::string folder_;
};

TEST_F(ImageVerbs, LifeOfAnImage) {
    auto result =
        import("base", {"--drive", "root=/srv/r:ro:shared", "--drive=data=d", "--vsock=v.sock"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(has(result.out, "Imported image \"base\": 4.0M of memory")) << result.out;
    EXPECT_EQ(import("base").exit_code, 1);
    EXPECT_EQ(image({"verify", "base"}).out, "Image \"base\" is intact.\n");
    const auto show = image({"show", "base"}).out;
    EXPECT_TRUE(has(show, "Drive: root /srv/r read-only shared")) << show;
    EXPECT_TRUE(has(show, "4.0K of data")) << show;
    const auto json = nlohmann::json::parse(image({"show", "base", "--json=short"}).out);
    EXPECT_EQ(json["memory_size"], 4 << 20);
    EXPECT_EQ(json["drives"][0]["path"], "/srv/r");
    EXPECT_EQ(json["data_bytes"], 4096);
    const auto rows = nlohmann::json::parse(image({"list", "--json=short"}).out);
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0]["valid"], true);
    EXPECT_EQ(image({"rm", "base"}).exit_code, 0);
    EXPECT_EQ(image({"list", "--json=short"}).out, "[]\n");
    EXPECT_EQ(image({"clean"}).out, "0 leftovers removed.\n");
}

TEST_F(ImageVerbs, WithARootFileSystem) {
    ASSERT_TRUE(write_file_atomic(folder_ + "/root.ext4", std::string(2 << 20, 'r')));
    const auto imported = import("base", {"--rootfs", folder_ + "/root.ext4"});
    ASSERT_EQ(imported.exit_code, 0) << imported.err;
    const auto show = image({"show", "base"}).out;
    EXPECT_TRUE(has(show, "Rootfs: rootfs (2.0M)")) << show;
    const auto json = nlohmann::json::parse(image({"show", "base", "--json=short"}).out);
    EXPECT_EQ(json["files"]["rootfs"]["file"]["size"], 2 << 20);
    auto content = *read_file(folder_ + "/images/base/rootfs", 8 << 20);
    content[8192] = 'y';
    ASSERT_TRUE(write_file_atomic(folder_ + "/images/base/rootfs", content));
    const auto verified = image({"verify", "base"});
    EXPECT_EQ(verified.exit_code, 1);
    EXPECT_TRUE(has(verified.err, "rootfs: page 2 ")) << verified.err;

    const auto raw = folder_ + "/images/raw/";
    ASSERT_TRUE(make_directories(raw));
    for (const auto& [from, to] :
         {std::pair("state", "vmstate"), {"memory", "memory"}, {"root.ext4", "disk"}})
        ASSERT_EQ(rename((folder_ + "/" + from).c_str(), (raw + to).c_str()), 0);
    const auto sealed = image({"seal", "raw", "--rootfs=disk"});
    ASSERT_EQ(sealed.exit_code, 0) << sealed.err;
    EXPECT_TRUE(has(image({"show", "raw"}).out, "Rootfs: disk (2.0M)"));
}

TEST_F(ImageVerbs, TellsDamage) {
    ASSERT_EQ(import("base").exit_code, 0);
    const auto memory = folder_ + "/images/base/memory";
    auto content = *read_file(memory, 8 << 20);
    content[8192] = 'y';
    ASSERT_TRUE(write_file_atomic(memory, content));
    const auto verified = image({"verify", "base"});
    EXPECT_EQ(verified.exit_code, 1);
    EXPECT_TRUE(has(verified.err, "page 2 ")) << verified.err;
    const auto json = image({"verify", "base", "--json=short"});
    EXPECT_EQ(json.exit_code, 1);
    EXPECT_EQ(nlohmann::json::parse(json.out)["valid"], false);
    ASSERT_EQ(truncate(memory.c_str(), 4096), 0);
    EXPECT_TRUE(has(image({"list"}).out, "truncated"));
    EXPECT_EQ(image({"show", "base"}).exit_code, 1);
}

TEST_F(ImageVerbs, ExitCodes) {
    EXPECT_EQ(image({"show", "nobody"}).exit_code, 3);
    EXPECT_EQ(image({"rm", "nobody"}).exit_code, 3);
    EXPECT_EQ(image({"show", "../x"}).exit_code, 1);
    EXPECT_EQ(run({"image", "list", "--image-root", folder_ + "/nowhere"}).exit_code, 3);
    ASSERT_TRUE(remove_if_exists(folder_ + "/state"));
    EXPECT_EQ(import("base").exit_code, 3);
}

TEST_F(ImageVerbs, CtrlCLeavesNothing) {
    // Large enough that the signal comes in the middle.
    ASSERT_EQ(truncate((folder_ + "/memory").c_str(), off_t{16} << 30), 0);
    bool sent = false;
    ProgramOptions options;
    options.meanwhile = [&](pid_t child) {
        if (!std::exchange(sent, true)) {
            usleep(300000);
            kill(child, SIGINT);
        }
    };
    const auto result = image(
        {"import", "base", "--state", folder_ + "/state", "--memory", folder_ + "/memory"}, options
    );
    EXPECT_EQ(result.exit_code, 7) << result.err;
    EXPECT_EQ(rmdir((folder_ + "/images").c_str()), 0) << "not empty";
}

TEST_F(ImageVerbs, FullStdoutIsAFailure) {
    const auto result = testing::run_thawctl(nullptr, {"--version"}, {.silent_bus = true});
    EXPECT_EQ(result.exit_code, 0);
    const auto command = std::string(THAWCTL_PROGRAM) + " --image-root " + folder_ +
                         "/images image list --json=short > /dev/full";
    EXPECT_EQ(WEXITSTATUS(system(command.c_str())), 1);
}

} // namespace
} // namespace thaw::ctl
