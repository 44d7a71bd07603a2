// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "core/scm.hpp"
#include "protocol/worker_control.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>

namespace thaw::protocol {
namespace {

Fd a_memfd(const char* name) {
    return Fd(::memfd_create(name, MFD_CLOEXEC));
}

bool same(int a, int b) {
    return identify(a).value() == identify(b).value();
}

std::size_t open_fds() {
    std::size_t count = 0;
    for (int fd = 0; fd < 512; ++fd)
        count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    return count;
}

StartMessage a_start(bool with_map) {
    StartMessage start;
    start.session = a_memfd("session");
    start.uffd = a_memfd("uffd");
    start.vmm_pidfd = a_memfd("pidfd");
    start.memory = a_memfd("memory");
    if (with_map) start.map = a_memfd("map");
    start.spares = make_spare_sockets(3).value();
    return start;
}

class Channel : public ::testing::Test {
protected:
    void SetUp() override {
        auto pair = make_seqpacket_pair(true);
        ASSERT_TRUE(pair);
        a_ = std::move(pair->first);
        b_ = std::move(pair->second);
    }
    Result<ControlMessage> pass(const EncodedMessage& message) {
        auto sent = send_control(a_.get(), message);
        if (!sent) return std::unexpected(std::move(sent).error());
        return receive_control(b_.get());
    }
    Fd a_;
    Fd b_;
};

TEST_F(Channel, StartBringsEveryDescriptorInItsPlace) {
    for (const bool with_map : {true, false}) {
        const StartMessage start = a_start(with_map);
        const auto message = pass(encode(start));
        ASSERT_TRUE(message) << message.error().message();
        ASSERT_EQ(message->type, ControlType::Start);
        EXPECT_TRUE(same(message->start.session.get(), start.session.get()));
        EXPECT_TRUE(same(message->start.uffd.get(), start.uffd.get()));
        EXPECT_TRUE(same(message->start.vmm_pidfd.get(), start.vmm_pidfd.get()));
        EXPECT_TRUE(same(message->start.memory.get(), start.memory.get()));
        EXPECT_EQ(static_cast<bool>(message->start.map), with_map);
        EXPECT_EQ(message->start.spares.size(), 3U);
    }
}

TEST_F(Channel, MapAndWorkingSetAreToldApart) {
    for (const bool with_map : {true, false}) {
        StartMessage start = a_start(with_map);
        start.working_set = a_memfd("working-set");
        const auto message = pass(encode(start));
        ASSERT_TRUE(message) << message.error().message();
        EXPECT_EQ(static_cast<bool>(message->start.map), with_map);
        ASSERT_TRUE(message->start.working_set);
        EXPECT_TRUE(same(message->start.working_set.get(), start.working_set.get()));
        EXPECT_EQ(message->start.spares.size(), 3U);
        HelloView view;
        view.session = view.uffd = view.vmm_pidfd = view.memory = start.session.get();
        view.map = start.map.get();
        view.working_set = start.working_set.get();
        const auto hello = pass(encode(view));
        ASSERT_TRUE(hello) << hello.error().message();
        EXPECT_EQ(static_cast<bool>(hello->hello.map), with_map);
        EXPECT_TRUE(same(hello->hello.working_set.get(), start.working_set.get()));
    }
}

TEST_F(Channel, AnswersOfTheWorker) {
    const auto attended =
        pass(encode(AttendedMessage{.serial = 7, .quiesced = true, .tracking = TrackState::Failed})
        );
    ASSERT_TRUE(attended && attended->type == ControlType::Attended);
    EXPECT_EQ(attended->attended.serial, 7U);
    EXPECT_TRUE(attended->attended.quiesced);
    EXPECT_EQ(attended->attended.tracking, TrackState::Failed);
    const auto ended = pass(encode(
        ReplayEndedMessage{.state = ReplayState::Refused, .reason = ReplayReason::ForeignImage}
    ));
    ASSERT_TRUE(ended && ended->type == ControlType::ReplayEnded);
    EXPECT_EQ(ended->replay_ended.state, ReplayState::Refused);
    EXPECT_EQ(ended->replay_ended.reason, ReplayReason::ForeignImage);
    EXPECT_EQ(pass(encode(ControlType::Attend))->type, ControlType::Attend);
    EncodedMessage bad = encode(ReplayEndedMessage{});
    bad.data[16] = std::byte{9};
    EXPECT_EQ(pass(bad).error().code(), EBADMSG);
    bad = encode(AttendedMessage{});
    bad.data[20] = std::byte{2};
    EXPECT_EQ(pass(bad).error().code(), EBADMSG);
}

TEST_F(Channel, TheOthers) {
    HelloView hello;
    const Fd session = a_memfd("session");
    hello.session_id = {7, 7, 7};
    hello.session = hello.uffd = hello.vmm_pidfd = hello.memory = session.get();
    auto message = pass(encode(hello));
    ASSERT_TRUE(message);
    ASSERT_EQ(message->type, ControlType::Hello);
    EXPECT_EQ(message->hello.session_id, hello.session_id);
    EXPECT_TRUE(same(message->hello.session.get(), session.get()));
    EXPECT_FALSE(message->hello.map);

    message = pass(encode(ReadyMessage{
        .generation = 4, .engine = FaultEngineKind::IoUring, .memory_lock = MemoryLock::All
    }));
    ASSERT_TRUE(message);
    EXPECT_EQ(message->type, ControlType::Ready);
    EXPECT_EQ(message->ready.generation, 4U);
    EXPECT_EQ(message->ready.engine, FaultEngineKind::IoUring);

    message = pass(encode(FailedMessage{
        .reason = FailureReason::Checksum, .errno_value = 74, .page_offset = 8192, .fatal = true
    }));
    ASSERT_TRUE(message);
    EXPECT_EQ(message->failed.reason, FailureReason::Checksum);
    EXPECT_EQ(message->failed.errno_value, 74);
    EXPECT_EQ(message->failed.page_offset, 8192U);
    EXPECT_TRUE(message->failed.fatal);

    WelcomeMessage welcome;
    welcome.spares = make_spare_sockets().value();
    message = pass(encode(welcome));
    ASSERT_TRUE(message);
    EXPECT_EQ(message->welcome.spares.size(), kSpareSockets);

    for (const auto type : {ControlType::Quit, ControlType::Complete, ControlType::VmmExited}) {
        message = pass(encode(type));
        ASSERT_TRUE(message);
        EXPECT_EQ(message->type, type);
    }
}

TEST_F(Channel, SilenceAndTheEndAreTold) {
    EXPECT_EQ(receive_control(b_.get()).error().code(), EAGAIN);
    a_.reset();
    EXPECT_EQ(receive_control(b_.get()).error().code(), ECONNRESET);
}

TEST_F(Channel, ATooLongMessageIsRefused) {
    EncodedMessage message = encode(ControlType::Quit);
    message.data.resize(kControlMaxSize + 1);
    EXPECT_EQ(pass(message).error().code(), EBADMSG);
}

// Changes to a good message that make it a bad one: offsets of the header's and the body's words.
TEST(WorkerControl, HostileMessagesAreRefusedAndLeaveNoDescriptor) {
    const EncodedMessage good = encode(a_start(true));
    const std::size_t before = open_fds();
    const auto decode_with = [&](auto change, std::size_t fd_count) {
        std::vector<std::byte> data = good.data;
        change(data);
        std::vector<Fd> fds;
        while (fds.size() < fd_count)
            fds.push_back(a_memfd("x"));
        return decode(data, std::move(fds)).has_value();
    };
    const auto put = [](std::size_t at, std::uint32_t value) {
        return [=](std::vector<std::byte>& data) { std::memcpy(data.data() + at, &value, 4); };
    };
    const auto nothing = [](std::vector<std::byte>&) {};
    EXPECT_TRUE(decode_with(nothing, 8));
    EXPECT_FALSE(decode_with(nothing, 7));
    EXPECT_FALSE(decode_with(nothing, 9));
    EXPECT_FALSE(decode_with(nothing, 0));
    EXPECT_FALSE(decode_with(put(0, 1), 8));                           // magic
    EXPECT_FALSE(decode_with(put(4, 0x0001'0001), 8));                 // version
    EXPECT_FALSE(decode_with(put(4, 0x0999'0002), 8));                 // type
    EXPECT_FALSE(decode_with(put(8, 1), 8));                           // size
    EXPECT_FALSE(decode_with(put(12, 0), 8));                          // descriptor count
    EXPECT_FALSE(decode_with(put(16, 3), 8));                          // a part too many
    EXPECT_FALSE(decode_with(put(16, 4), 8));                          // an unknown part
    EXPECT_FALSE(decode_with(put(20, UINT32_MAX), 8));                 // spares
    EXPECT_FALSE(decode_with(put(20, 2), 8));                          // too few spares
    EXPECT_FALSE(decode_with([](auto& data) { data.pop_back(); }, 8)); // short
    EXPECT_FALSE(decode_with([](auto& data) { data.resize(3); }, 8));  // hardly there
    EXPECT_FALSE(decode_with([](auto& data) { data.clear(); }, 8));    // not there
    EXPECT_EQ(open_fds(), before);
}

TEST(WorkerControl, RandomBytesNeitherCrashNorLeak) {
    std::mt19937_64 random(3);
    const auto before = open_fds();
    for (int round = 0; round < 20'000; ++round) {
        std::vector<std::byte> data = encode(static_cast<ControlType>(round % 24)).data;
        data.resize(random() % kControlMaxSize, std::byte{0});
        for (std::byte& byte : data)
            if (random() % 8 == 0) byte = static_cast<std::byte>(random());
        static_cast<void>(decode(data, {})); // must not crash; sanitizers watch
    }
    EXPECT_EQ(open_fds(), before);
}

TEST(WorkerControl, SparesCanConnect) {
    auto spares = make_spare_sockets(2);
    ASSERT_TRUE(spares);
    for (const Fd& fd : *spares) {
        EXPECT_NE(::fcntl(fd.get(), F_GETFL) & O_NONBLOCK, 0);
        EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    }
}

} // namespace
} // namespace thaw::protocol
