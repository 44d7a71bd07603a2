// SPDX-License-Identifier: MIT
#include "core/fd.hpp"
#include "proc_reader.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace thaw::sharesd {
namespace {

TEST(CountDescriptors, BothWaysCountTheSame) {
    std::vector<Fd> open_files;
    for (int i = 0; i < 100; ++i)
        open_files.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto walked = count_descriptors(getpid(), CountMethod::Walk).value();
    EXPECT_GE(walked, 103U);
    if (probe_count_method() != CountMethod::Stat) GTEST_SKIP() << "no count in st_size here";
    // The walk has its own descriptor of the folder open meanwhile.
    EXPECT_EQ(count_descriptors(getpid(), CountMethod::Stat).value() + 1, walked);
}

TEST(CountDescriptors, AProcessThatIsGoneIsAnErrorAndNoZero) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    for (const auto method : {CountMethod::Stat, CountMethod::Walk})
        EXPECT_FALSE(count_descriptors(child, method));
    EXPECT_FALSE(read_limits(child));
    EXPECT_FALSE(resident_memory(child));
    EXPECT_FALSE(worker_of(child));
}

TEST(WorkerOf, TheChildOrItself) {
    const pid_t outer = fork();
    if (outer == 0) {
        const pid_t inner = fork();
        if (inner == 0) {
            pause();
            _exit(0);
        }
        pause();
        _exit(0);
    }
    auto worker = worker_of(outer);
    for (int i = 0; i < 200 && worker && *worker == outer; ++i) {
        usleep(10000);
        worker = worker_of(outer);
    }
    ASSERT_TRUE(worker);
    EXPECT_NE(*worker, outer);
    EXPECT_EQ(worker_of(*worker).value(), *worker);
    kill(*worker, SIGKILL);
    kill(outer, SIGKILL);
    waitpid(outer, nullptr, 0);
}

TEST(RaiseLimit, RaisesAndNeverLowers) {
    const pid_t child = fork();
    if (child == 0) {
        const rlimit low{100, 200};
        setrlimit(RLIMIT_NOFILE, &low);
        pause();
        _exit(0);
    }
    for (int i = 0; i < 200 && read_limits(child)->soft != 100; ++i)
        usleep(10000);
    EXPECT_TRUE(raise_limit_of(child, 150));
    EXPECT_EQ(read_limits(child)->soft, 150U);
    EXPECT_EQ(read_limits(child)->hard, 200U);
    const auto lowered = raise_limit_of(child, 120);
    ASSERT_FALSE(lowered);
    EXPECT_EQ(lowered.error().code(), ERANGE);
    EXPECT_EQ(read_limits(child)->soft, 150U);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
}

TEST(ParseConnected, TellsListenersFromConnections) {
    const auto found = parse_connected(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01  1234 /run/listening.sock\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03  1235 /run/connected.sock\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03  1236\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 91237 /run/with blank.sock\n"
        "0000000000000000: 00000002 00000000 00000000 0002 01 91238 /run/datagram\n"
        "short\n"
    );
    EXPECT_EQ(found, (std::set<std::string>{"/run/connected.sock", "/run/with blank.sock"}));
    EXPECT_TRUE(parse_connected("").empty());
}

// Against the kernel itself.
TEST(ReadConnected, SeesARealConnection) {
    const auto path = "/tmp/thaw-connected-" + std::to_string(getpid());
    sockaddr_un address{.sun_family = AF_UNIX};
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    unlink(path.c_str());
    const auto* where = reinterpret_cast<const sockaddr*>(&address);
    ASSERT_EQ(bind(listener.get(), where, sizeof(address)), 0);
    ASSERT_EQ(listen(listener.get(), 1), 0);
    const auto connected = [&] {
        FILE* file = fopen("/proc/self/net/unix", "r");
        std::string text;
        char buffer[65536];
        while (const auto n = fread(buffer, 1, sizeof(buffer), file))
            text.append(buffer, n);
        fclose(file);
        return parse_connected(text).contains(path);
    };
    EXPECT_FALSE(connected());
    const Fd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(client.get(), where, sizeof(address)), 0);
    const Fd server(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(server);
    EXPECT_TRUE(connected());
    unlink(path.c_str());
}

} // namespace
} // namespace thaw::sharesd
