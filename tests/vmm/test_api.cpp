// SPDX-License-Identifier: MIT
#include "test_support.hpp"

#include <sys/wait.h>

#include <filesystem>
#include <fstream>

using namespace thaw::standin;
using namespace thaw::standin::test;

namespace {

class ApiTest : public testing::Test {
protected:
    void image(const std::vector<std::string>& options = {}) { make_image(directory_, options); }
    WorkDirectory directory_;
};

std::string message(const Reply& reply) {
    return reply.body.value("fault_message", "");
}

} // namespace

TEST_F(ApiTest, answers_before_the_boot) {
    const StandinProcess vmm(directory_, {{"generation", "1.12"}});
    const Reply info = vmm.call("GET", "/");
    EXPECT_EQ(
        info.body, json(
                       {{"app_name", "Firecracker"},
                        {"id", "vm-1"},
                        {"state", "Not started"},
                        {"vmm_version", "1.12.0"}}
                   )
    );
    EXPECT_TRUE(info.raw_head.starts_with("HTTP/1.1 200 \r\n"));
    EXPECT_EQ(vmm.call("GET", "/version").body.at("firecracker_version"), "1.12.0");
    EXPECT_EQ(vmm.call("GET", "/machine-config").status, 200);
    EXPECT_EQ(vmm.call("PATCH", "/vm", {{"state", "Resumed"}}).status, 400);
    EXPECT_EQ(vmm.call("PUT", "/standin/verify", json::object()).status, 400);
    EXPECT_EQ(vmm.call("GET", "/nothing").status, 400);
    EXPECT_EQ(vmm.call("DELETE", "/vm").status, 400);
}

TEST_F(ApiTest, refuses_bad_bodies_and_lives) {
    image();
    const StandinProcess vmm(directory_, json::object());
    const json file = {{"backend_type", "File"}, {"backend_path", "memory"}};
    for (const json& bad :
         {json{{"snapshot_path", "vmstate"}}, json{{"mem_backend", file}},
          json{{"snapshot_path", "vmstate"}, {"mem_backend", file}, {"colour", 1}},
          json{{"snapshot_path", "vmstate"}, {"mem_backend", file}, {"mem_file_path", "memory"}},
          json{
              {"snapshot_path", "vmstate"},
              {"mem_backend", {{"backend_type", "Tape"}, {"backend_path", "x"}}}
          }}) {
        const Reply reply = vmm.call("PUT", "/snapshot/load", bad);
        EXPECT_EQ(reply.status, 400) << bad;
        EXPECT_TRUE(message(reply).starts_with("An error occurred when deserializing")) << bad;
    }
    EXPECT_EQ(vmm.call("PATCH", "/vm", {{"state", "Asleep"}}).status, 400);
    EXPECT_EQ(vmm.load(false, "File", "memory").status, 204);
    EXPECT_EQ(
        message(vmm.load(false, "File", "memory")),
        "The requested operation is not supported after starting the microVM."
    );
}

TEST_F(ApiTest, newer_fields_are_unknown_to_older_generations) {
    image({"--net", "eth0=tap0"});
    const json request = {
        {"snapshot_path", "vmstate"},
        {"mem_backend", {{"backend_type", "File"}, {"backend_path", "memory"}}},
        {"network_overrides", {{{"iface_id", "eth0"}, {"host_dev_name", "t9"}}}}
    };
    const StandinProcess older(directory_, {{"generation", "1.11"}}, true, "old.sock");
    EXPECT_EQ(older.call("PUT", "/snapshot/load", request).status, 400);
    const StandinProcess newer(directory_, {{"generation", "1.12"}});
    EXPECT_EQ(newer.call("PUT", "/snapshot/load", request).status, 204);
    EXPECT_EQ(
        newer.report().at("devices").at("network_interfaces").at(0).at("host_dev_name"), "t9"
    );
}

TEST_F(ApiTest, one_connection_takes_many_requests_and_expect_continue) {
    const StandinProcess vmm(directory_, json::object());
    const Fd socket = connect_unix(directory_.path("api.sock"), 5);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(exchange(socket.get(), format_request("GET", "/", json())).status, 200);
    }
    const Fd idle = connect_unix(directory_.path("api.sock"), 5); // must not block the others
    const std::string body = R"({"level": "Info"})";
    EXPECT_EQ(
        exchange(
            socket.get(), "PUT /logger HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) +
                              "\r\nExpect: 100-continue\r\n\r\n"
        )
            .status,
        100
    );
    EXPECT_EQ(exchange(socket.get(), body).status, 204);
}

TEST_F(ApiTest, failed_load_answers_and_ends) {
    image();
    StandinProcess vmm(directory_, json::object());
    const Reply reply = vmm.load(); // nobody listens
    EXPECT_EQ(reply.status, 400);
    EXPECT_NE(message(reply).find("No such file or directory (os error 2)"), std::string::npos);
    const auto status = vmm.wait();
    ASSERT_TRUE(status);
    EXPECT_EQ(WEXITSTATUS(*status), 1);
}

TEST_F(ApiTest, file_backend_runs_pauses_and_snapshots) {
    image();
    const json guest = {{"pattern", "working-set"}, {"vcpus", 2}, {"drop_every", 40}};
    StandinProcess vmm(directory_, {{"guest", guest}});
    ASSERT_EQ(vmm.load(true, "File", "memory").status, 204);
    EXPECT_EQ(vmm.call("GET", "/").body.at("state"), "Running");
    const json create = {{"snapshot_path", "vmstate2"}, {"mem_file_path", "memory2"}};
    EXPECT_EQ(vmm.call("PUT", "/snapshot/create", create).status, 400);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("drops") > 10; }));
    ASSERT_EQ(vmm.call("PATCH", "/vm", {{"state", "Paused"}}).status, 204);
    const auto before = vmm.report().at("guest").at("touches");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(vmm.report().at("guest").at("touches"), before);
    EXPECT_TRUE(vmm.call("PUT", "/standin/verify", json::object()).body.at("all_equal"));
    ASSERT_EQ(vmm.call("PUT", "/snapshot/create", create).status, 204);
    const json hash = vmm.call("PUT", "/standin/hash", json::object()).body;

    std::filesystem::rename(directory_.path("memory2"), directory_.path("memory"));
    std::filesystem::rename(directory_.path("vmstate2"), directory_.path("vmstate"));
    const StandinProcess second(directory_, json::object(), true, "second.sock");
    ASSERT_EQ(second.load(false, "File", "memory").status, 204);
    EXPECT_EQ(
        second.call("PUT", "/standin/hash", json::object()).body.at("digest"), hash.at("digest")
    );
    EXPECT_EQ(vmm.call("PUT", "/standin/exit", {{"code", 7}}).status, 204);
    EXPECT_EQ(WEXITSTATUS(vmm.wait().value_or(0)), 7);
}

TEST_F(ApiTest, guest_changes_at_run_time) {
    image();
    const StandinProcess vmm(directory_, json::object());
    ASSERT_EQ(vmm.load(true, "File", "memory").status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("finished").get<bool>(); }));
    const json guest = {{"pattern", "sequential"}, {"rate_per_second", 2000}};
    ASSERT_EQ(vmm.call("PUT", "/standin/guest", guest).status, 204);
    ASSERT_TRUE(eventually([&] { return vmm.report().at("guest").at("touches") > 50; }));
    EXPECT_EQ(vmm.call("PUT", "/standin/guest", {{"colour", 1}}).status, 400);
    ASSERT_EQ(vmm.call("PUT", "/standin/guest", {{"stop", true}}).status, 204);
    EXPECT_TRUE(vmm.report().at("guest").at("finished"));
}

TEST_F(ApiTest, two_of_one_image_need_their_own_directory_or_override) {
    image({"--vsock", "v.sock", "--drive", "disk.img"});
    std::ofstream(directory_.path("disk.img")) << "disk";
    const StandinProcess first(directory_, json::object());
    ASSERT_EQ(first.load(false, "File", "memory").status, 204);
    EXPECT_TRUE(std::filesystem::is_socket(directory_.path("v.sock")));

    const StandinProcess second(directory_, json::object(), true, "second.sock");
    const Reply taken = second.load(false, "File", "memory");
    EXPECT_EQ(taken.status, 400);
    EXPECT_NE(message(taken).find("AddrInUse"), std::string::npos) << taken.body;

    const StandinProcess third(directory_, json::object(), true, "third.sock");
    const Reply moved = third.call(
        "PUT", "/snapshot/load",
        {{"snapshot_path", "vmstate"},
         {"mem_backend", {{"backend_type", "File"}, {"backend_path", "memory"}}},
         {"vsock_override", {{"uds_path", "v3.sock"}}}}
    );
    EXPECT_EQ(moved.status, 204) << moved.body;
    EXPECT_TRUE(std::filesystem::is_socket(directory_.path("v3.sock")));
}

TEST_F(ApiTest, missing_drive_fails_after_the_handshake) {
    image({"--drive", "gone.img"});
    SmallPager pager(directory_.path("uffd.sock"), directory_.path("memory"), {});
    const StandinProcess vmm(directory_, json::object());
    const Reply reply = vmm.load();
    EXPECT_EQ(reply.status, 400);
    EXPECT_NE(message(reply).find("gone.img"), std::string::npos);
    EXPECT_GT(pager.served(), 0U); // the devices' pages
}

TEST(Program, refuses_unknown_options_and_shows_help) {
    EXPECT_EQ(run_program({"--version"}), 0);
    EXPECT_EQ(run_program({"--help"}), 0);
    EXPECT_EQ(run_program({"--colour", "red"}), 2);
    EXPECT_EQ(run_program({"--make-snapshot", "/nonexistent/dir", "--memory-mib", "2"}), 1);
    EXPECT_EQ(
        run_program({"--make-snapshot", "/tmp", "--memory-mib", "3", "--page-size", "2097152"}), 2
    );
}
