// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "core/file.hpp"
#include "fixture.hpp"
#include "test_programs.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <regex>

namespace thaw::pagerd {
namespace {

using Api = PagerdTest;

TEST_F(Api, CreateListGetClose) {
    start_daemon();
    EXPECT_EQ(sessions(), 0U);
    ASSERT_EQ(create("a-b"), "");
    // Announced before the answer, kept before the answer.
    EXPECT_EQ(added_, std::vector<std::string>{"a-b"});
    EXPECT_EQ(keeper_->count(".listen"), 1U);
    EXPECT_EQ(keeper_->count(".session"), 1U);
    EXPECT_EQ(keeper_->count(".memory"), 1U);
    struct stat status{};
    ASSERT_EQ(::stat(socket_of("a-b").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0660U);
    ASSERT_EQ(::stat((runtime_ + "/vm/a-b").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0750U);

    EXPECT_EQ(sessions(), 1U);
    EXPECT_EQ(text("a-b", "Name"), "a-b");
    EXPECT_EQ(text("a-b", "Id").size(), 32U);
    EXPECT_EQ(text("a-b", "Unit"), "thaw-firecracker@a-b.service");
    EXPECT_EQ(text("a-b", "Image"), "sample");
    EXPECT_EQ(text("a-b", "State"), "listening");
    EXPECT_EQ(number("a-b", "MemorySize", 't'), kMemory);
    EXPECT_EQ(create("a-b"), pager1::error::kSessionExists);

    EXPECT_EQ(close("a-b"), "");
    EXPECT_TRUE(until([&] { return removed_ == std::vector<std::string>{"a-b:closed"}; }));
    EXPECT_EQ(sessions(), 0U);
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); }));
    EXPECT_NE(::access((runtime_ + "/vm/a-b").c_str(), F_OK), 0);
    EXPECT_EQ(close("a-b"), pager1::error::kNoSuchSession);
}

TEST_F(Api, RefusesUnknownKeysAndFlags) {
    start_daemon();
    const std::string invalid = "org.freedesktop.DBus.Error.InvalidArgs";
    auto flags = create_call("a", unit_of("a"));
    ASSERT_TRUE(flags.append("t", std::uint64_t{1}));
    EXPECT_EQ(call(flags).error, invalid);
    const auto attempt = [&](const char* name, const char* unit, const char* file,
                             const char* option, const char* value) {
        auto message = new_call("CreateSession");
        EXPECT_TRUE(message.append(
            "ssa{sh}a{sv}t", name, unit, 1, file, image_.get(), 1, option, "s", value,
            std::uint64_t{0}
        ));
        return call(std::move(message)).error;
    };
    EXPECT_EQ(attempt("a", "x.service", "memory", "OnPagerLoss", "stop"), "");
    EXPECT_EQ(attempt("b", "x.service", "memory", "NoSuch", "x"), invalid);
    EXPECT_EQ(attempt("b", "x.service", "memory", "OnPagerLoss", "x"), invalid);
    EXPECT_EQ(attempt("b", "x.service", "memory", "MemorySize", "x"), invalid);
    EXPECT_EQ(attempt("b", "x.service", "memory", "ImageId", "xyz"), invalid);
    EXPECT_EQ(attempt("b", "x.service", "memory", "ImageName", "../x"), invalid);
    EXPECT_EQ(attempt("b", "x.service", "disk", "OnPagerLoss", "stop"), invalid);
    EXPECT_EQ(attempt("b", "x.service", "map", "OnPagerLoss", "stop"), invalid);
    EXPECT_EQ(attempt("../b", "x.service", "memory", "OnPagerLoss", "stop"), invalid);
    EXPECT_EQ(attempt("b", "x", "memory", "OnPagerLoss", "stop"), invalid);
    EXPECT_EQ(sessions(), 1U);
}

// A restore that is canceled while its session is being made sends both calls in one go.
TEST_F(Api, CloseOvertakesTheStoringOfANewSession) {
    start_daemon();
    auto made = create_call("a", unit_of("a"));
    ASSERT_TRUE(made.append("t", std::uint64_t{0}));
    auto closed = new_call("CloseSession");
    ASSERT_TRUE(closed.append("st", "a", std::uint64_t{0}));
    std::optional<std::string> create_error;
    std::optional<bool> close_done;
    const auto creating = bus_->call(std::move(made), [&](const Result<BusMessage>& reply) {
        create_error = reply ? "" : std::string(reply.error().bus_name());
    });
    const auto closing = bus_->call(std::move(closed), [&](const Result<BusMessage>& reply) {
        close_done = reply.has_value();
    });
    // PID 1's part is played in this loop: nothing is stored while it stands still.
    ASSERT_GE(sd_bus_flush(bus_->get()), 0);
    usleep(300000);
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return create_error && close_done; }));
    EXPECT_EQ(*create_error, pager1::error::kNoSuchSession);
    EXPECT_TRUE(*close_done);
    EXPECT_EQ(sessions(), 0U);
    EXPECT_FALSE(std::filesystem::exists(socket_of("a")));
    EXPECT_EQ(create("a"), "");
}

TEST_F(Api, OnlyRootChangesAnything) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    // The bus proves the uid by the credentials of the connecting process.
    ASSERT_EQ(::seteuid(65534), 0);
    auto other = bus_daemon_->connect(*loop_);
    ASSERT_TRUE(other);
    const bool connected = until([&] { return sd_bus_is_ready(other->get()) > 0; });
    ASSERT_EQ(::seteuid(0), 0);
    ASSERT_TRUE(connected);
    std::swap(*bus_, *other);
    const std::string denied = "org.freedesktop.DBus.Error.AccessDenied";
    EXPECT_EQ(create("b"), denied);
    EXPECT_EQ(close("a"), denied);
    auto message =
        *bus_->new_call(pager1::kBusName, path_of("a"), pager1::kSessionInterface, "Close");
    ASSERT_TRUE(message.append("t", std::uint64_t{0}));
    EXPECT_EQ(call(std::move(message)).error, denied);
    EXPECT_EQ(sessions(), 1U);
    EXPECT_EQ(text("a", "State"), "listening");
    std::swap(*bus_, *other);
}

TEST_F(Api, Limits) {
    write_config("MaxSessions=2\nFileDescriptorStoreMax=16");
    start_daemon();
    ASSERT_EQ(create("a"), "");
    // Room for two sessions' seven and the image's two, not for another seven.
    EXPECT_EQ(create("b"), "");
    EXPECT_EQ(create("c"), pager1::error::kTooManySessions);
    EXPECT_EQ(close("b"), "");
    kill_daemon();
    write_config("MaxSessions=9\nFileDescriptorStoreMax=16");
    start_daemon();
    EXPECT_EQ(create("b"), "");
    EXPECT_EQ(create("c"), pager1::error::kStoreFull);
}

TEST_F(Api, ImageIsKeptOnceAndMustBeTheSameFile) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    ASSERT_EQ(create("b"), "");
    EXPECT_EQ(keeper_->count(".memory"), 1U);
    const auto same = std::move(image_);
    image_ = Fd(::memfd_create("other", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(image_.get(), static_cast<off_t>(kMemory)), 0);
    EXPECT_EQ(create("c"), pager1::error::kImageMismatch);
    EXPECT_EQ(close("a"), "");
    EXPECT_EQ(keeper_->count(".memory"), 1U);
    EXPECT_EQ(close("b"), "");
    EXPECT_TRUE(until([&] { return keeper_->count(".memory") == 0; }));
    EXPECT_EQ(create("c"), "");
}

TEST_F(Api, TwentyAtOnce) {
    start_daemon();
    std::vector<VmmProcess> vmms;
    for (int i = 0; i < 20; ++i) {
        ASSERT_EQ(create(fmt::format("vm{}", i)), "");
        vmms.push_back(make_vmm(fmt::format("vm{}", i)));
    }
    for (auto& vmm : vmms)
        vmm.connect();
    for (auto& vmm : vmms)
        ASSERT_TRUE(answer(vmm));
    for (auto& vmm : vmms)
        vmm.check_pages(0, kPages);
    for (auto& vmm : vmms)
        EXPECT_TRUE(answer(vmm));
    for (int i = 0; i < 20; ++i)
        EXPECT_TRUE(wait_state(fmt::format("vm{}", i), "serving"));
    vmms.clear();
    EXPECT_TRUE(until([&] { return removed_.size() == 20; }));
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); }));
}

// ---- what is exported --------------------------------------------------------------------------

// Interface of that name without comments, documentation and white space between elements.
std::string interface_of(const std::string& xml, const std::string& name) {
    auto text = std::regex_replace(xml, std::regex("<!--[^]*?-->"), "");
    const auto begin = text.find("<interface name=\"" + name + "\"");
    if (begin == std::string::npos) return {};
    text = text.substr(begin, text.find("</interface>", begin) - begin);
    return std::regex_replace(text, std::regex(">\\s+<"), "><");
}

TEST_F(Api, IntrospectionIsWhatTheFilesSay) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    for (const auto& [path, interface] :
         {std::pair<std::string, const char*>{pager1::kPath, pager1::kManagerInterface},
          {path_of("a"), pager1::kSessionInterface}}) {
        auto reply = call(*bus_->new_call(
            pager1::kBusName, path, "org.freedesktop.DBus.Introspectable", "Introspect"
        ));
        const char* xml = nullptr;
        ASSERT_TRUE(reply.error.empty() && reply.message.read("s", &xml));
        const auto file = read_file(fmt::format("{}/{}.xml", kInterfaceFolder, interface));
        ASSERT_TRUE(file) << file.error().message();
        EXPECT_NE(interface_of(*file, interface), "");
        EXPECT_EQ(interface_of(xml, interface), interface_of(*file, interface));
    }
}

} // namespace
} // namespace thaw::pagerd
