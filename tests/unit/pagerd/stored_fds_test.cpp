// SPDX-License-Identifier: MIT
#include "config.hpp"
#include "create_request.hpp"
#include "stored_fds.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>

namespace thaw::pagerd {
namespace {

Fd some_fd() {
    return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

TEST(StoredName, RoundTrip) {
    for (const auto& [role, word] : kFdRoleNames.rows()) {
        const auto name = stored_name("00ff", role);
        EXPECT_EQ(name, "00ff." + std::string(word));
        EXPECT_EQ(parse_stored_name(name), (StoredName{"00ff", role}));
    }
}

TEST(StoredName, RefusesOthers) {
    for (const auto* name :
         {"", ".", "00ff", "00ff.", ".uffd", "00ff.UFFD", "00FF.uffd", "0g.uffd", "00ff.uffd.x",
          "00ff.uffd ", "../x.uffd", "stored", "control"})
        EXPECT_FALSE(parse_stored_name(name)) << name;
    EXPECT_FALSE(parse_stored_name(std::string(65, 'a') + ".uffd"));
    EXPECT_TRUE(parse_stored_name(std::string(64, 'a') + ".uffd"));
}

TEST(Inherited, SortsById) {
    std::vector<NamedFd> fds;
    for (const auto* name : {"control", "aa.listen", "bb.uffd", "aa.session", "stored", "bb.uffd"})
        fds.push_back({name, some_fd()});
    const auto inherited = sort_inherited(std::move(fds));
    EXPECT_TRUE(inherited.control);
    EXPECT_EQ(inherited.stored, 4U) << "the second bb.uffd goes with the first";
    EXPECT_EQ(inherited.unknown, std::vector<std::string>{"stored"});
    ASSERT_EQ(inherited.by_id.size(), 2U);
    EXPECT_EQ(inherited.by_id.at("aa").size(), 2U);
    EXPECT_EQ(inherited.by_id.at("bb").size(), 1U);
}

TEST(VmmUnit, Names) {
    for (const auto* unit :
         {"thaw-firecracker@a.service", "thaw-firecracker@a\\x2db.service", "run-1.scope",
          "x.service"})
        EXPECT_TRUE(is_valid_vmm_unit(unit)) << unit;
    for (const auto* unit : {"", "a", "a.socket", "../a.service", "a b.service", "a\n.service"})
        EXPECT_FALSE(is_valid_vmm_unit(unit)) << unit;
    EXPECT_FALSE(is_valid_vmm_unit(std::string(250, 'a') + ".service"));
}

TEST(Config, ReadsItsKeys) {
    Config config;
    const auto warnings = parse_config(
        "[Pager]\n"
        "MaxSessions=7\n"
        "HandshakeTimeoutSec=250ms\n"
        "WorkerStuckSec=1min\n"
        "WorkerRestartLimit=0\n"
        "WorkerRestartIntervalSec=5\n"
        "AdoptionTimeoutSec=1s\n"
        "StartLimitBurst=2\n"
        "StartLimitIntervalSec=3s\n"
        "FileDescriptorStoreMax=100\n"
        "WorkerProgram=/opt/worker\n"
        "RuntimeDirectory=/tmp/x\n"
        "WorkersUnit=other.service\n",
        "test", config_keys(config)
    );
    EXPECT_TRUE(warnings.empty());
    EXPECT_EQ(config.max_sessions, 7U);
    EXPECT_EQ(config.handshake_timeout, 250 * kUsecPerMsec);
    EXPECT_EQ(config.worker_stuck, 60 * kUsecPerSec);
    EXPECT_EQ(config.worker_restart_limit, 0U);
    EXPECT_EQ(config.worker_restart_window, 5 * kUsecPerSec);
    EXPECT_EQ(config.adoption_timeout, kUsecPerSec);
    EXPECT_EQ(config.start_limit_burst, 2U);
    EXPECT_EQ(config.start_limit_interval, 3 * kUsecPerSec);
    EXPECT_EQ(config.store_capacity, 100U);
    EXPECT_EQ(config.worker_program, "/opt/worker");
    EXPECT_EQ(config.control_path(), "/tmp/x/control");
    EXPECT_EQ(config.workers_unit, "other.service");
}

TEST(Config, BadValuesAreSaidAndIgnored) {
    Config config;
    const auto warnings = parse_config(
        "[Pager]\nMaxSessions=0\nWorkerStuckSec=0\nWorkerProgram=worker\nNoSuchKey=1\n", "test",
        config_keys(config)
    );
    EXPECT_EQ(warnings.size(), 4U);
    EXPECT_EQ(config.max_sessions, Config{}.max_sessions);
    EXPECT_EQ(config.worker_stuck, Config{}.worker_stuck);
}

} // namespace
} // namespace thaw::pagerd
