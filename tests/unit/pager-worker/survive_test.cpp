// SPDX-License-Identifier: MIT
// Workers die, brokers die; the guest notices nothing but time.

#include "core/file.hpp"
#include "core/scm.hpp"
#include "harness.hpp"
#include "kills_wanted.hpp"
#include "temporary_directory.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

namespace thaw::test {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kSurvivorSize = 64 << 20;

class Survive : public ::testing::TestWithParam<const char*> {
protected:
    BrokerOptions options() const {
        BrokerOptions options;
        options.engine = GetParam();
        return options;
    }
};
INSTANTIATE_TEST_SUITE_P(Engines, Survive, ::testing::Values(THAW_TEST_ENGINES));

// What one page must hold, kept by the only thread that writes or removes it.
enum class PageState : std::uint8_t { Image, Removed, Written };

struct Findings {
    std::atomic<std::uint64_t> resurrected = 0;     // the image's bytes where zeros are due
    std::atomic<std::uint64_t> unexpected_zero = 0; // zeros where the image's bytes are due
    std::atomic<std::uint64_t> wrong = 0;           // anything else
    std::atomic<std::uint64_t> operations = 0;
};

// Touches, writes and gives back pages of its own (page % parts == part).
class GuestThread {
public:
    GuestThread(const Guest& guest, const TestImage& image, Findings& findings, unsigned part)
        : guest_(guest), findings_(findings), part_(part),
          states_(image.pages() / kParts, PageState::Image), random_(part + 100) {}

    static constexpr unsigned kParts = 3;

    void run(const std::atomic<bool>& stop) {
        while (!stop) {
            const std::uint64_t slot = random_() % states_.size();
            const auto action = random_() % 8;
            if (action == 0)
                write(slot);
            else if (action <= 2)
                remove(slot);
            else
                verify(slot);
            ++findings_.operations;
        }
    }
    void verify_all() {
        for (std::uint64_t slot = 0; slot < states_.size(); ++slot)
            verify(slot);
    }

private:
    std::uint64_t page_of(std::uint64_t slot) const { return slot * kParts + part_; }
    void write(std::uint64_t slot) {
        const std::uint64_t page = page_of(slot);
        verify(slot);
        *guest_.at(page) = ~page;
        states_[slot] = PageState::Written;
    }
    void remove(std::uint64_t slot) {
        guest_.remove(page_of(slot), 1);
        states_[slot] = PageState::Removed;
    }
    void verify(std::uint64_t slot) {
        const std::uint64_t page = page_of(slot);
        switch (states_[slot]) {
        case PageState::Image:
            if (TestImage::matches(guest_.address(page), page)) return;
            ++(guest_.is_zero(page) ? findings_.unexpected_zero : findings_.wrong);
            return;
        case PageState::Removed:
            if (guest_.is_zero(page)) return;
            ++(TestImage::matches(guest_.address(page), page) ? findings_.resurrected
                                                              : findings_.wrong);
            return;
        case PageState::Written:
            if (*guest_.at(page) != ~page) ++findings_.wrong;
            return;
        }
    }

    const Guest& guest_;
    Findings& findings_;
    unsigned part_;
    std::vector<PageState> states_;
    std::mt19937_64 random_;
};

// Kills workers while three threads touch, write and free pages. `ahead`: with a working set being
// replayed and, behind it, every page being brought in, all of it begun anew by each successor.
void kill_workers(const char* engine, BrokerOptions with, bool ahead, unsigned bases = 0) {
    const unsigned kills = kills_wanted(200);
    const HangGuard guard(60 + kills / 10);
    TestImage image(kSurvivorSize);
    const Guest guest({.size = kSurvivorSize, .split = 24 << 20});
    if (ahead) {
        std::vector<std::uint32_t> pages;
        for (std::uint32_t page = 0; page < image.pages(); page += page % 5 == 0 ? 1 : 4)
            pages.push_back(page);
        std::shuffle(pages.begin(), pages.end(), std::mt19937_64(3));
        with.working_set = image.working_set(pages);
    }
    if (bases > 0) image.lay_over(bases);
    Broker broker(image, guest, std::move(with));
    if (ahead) {
        // So slow that it lasts for all of them.
        broker.memory().set_prefetch({.enabled = true, .rate = (20ULL << 26) / (kills + 1)});
        broker.memory().request_populate(true);
    }
    auto worker = broker.start_ready();

    Findings findings;
    std::atomic<bool> stop = false;
    std::vector<GuestThread> parts;
    for (unsigned part = 0; part < GuestThread::kParts; ++part)
        parts.emplace_back(guest, image, findings, part);
    std::vector<std::thread> threads;
    for (auto& part : parts)
        threads.emplace_back([&] { part.run(stop); });

    std::mt19937_64 random(1);
    for (unsigned kill = 0; kill < kills; ++kill) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
        worker.kill();
        worker = broker.start();
        // Some die before they have taken over, too.
        if (random() % 4 != 0 && !broker.is_ready(worker)) {
            ADD_FAILURE() << "after " << kill + 1 << " of " << kills << " kills";
            break;
        }
    }
    stop = true;
    for (auto& thread : threads)
        thread.join();
    for (auto& part : parts)
        part.verify_all();
    EXPECT_EQ(findings.resurrected, 0U);
    EXPECT_EQ(findings.unexpected_zero, 0U);
    EXPECT_EQ(findings.wrong, 0U);
    EXPECT_TRUE(eventually([&] { return broker.state().oldest_fault_ns == 0; }));
    std::printf(
        "%s%s: %u kills, %lu operations, %lu faults, %lu messages replayed, %lu EAGAIN, %lu pages "
        "ahead\n",
        engine, ahead ? " with replay" : "", kills, findings.operations.load(),
        broker.counters().faults.load(), broker.counters().replayed_messages.load(),
        broker.counters().again.load(), broker.counters().replay_pages.load()
    );
    if (ahead) {
        EXPECT_GT(broker.counters().replay_pages, 0U);
    }
}

TEST_P(Survive, WorkersKilledAtRandomMoments) {
    kill_workers(GetParam(), options(), false);
}

// Each successor gets all files of a difference.
TEST_P(Survive, LayeredWorkersKilledWhileTheyReplay) {
    kill_workers(GetParam(), options(), true, 3);
}

TEST_P(Survive, WorkersKilledWhileTheyReplay) {
    kill_workers(GetParam(), options(), true);
}

// The messages that a worker had read and not acted upon, laid into the ring by hand.
TEST_P(Survive, ARemovalLeftInTheRingIsApplied) {
    const HangGuard guard(30);
    const TestImage image(kSurvivorSize);
    const Guest guest({.size = kSurvivorSize});
    Broker broker(image, guest, options());
    auto& slot = broker.memory().ring().at(37).at(11);
    struct {
        std::uint8_t event = 0x15; // UFFD_EVENT_REMOVE
        std::uint8_t pad[7] = {};
        std::uint64_t start = 0;
        std::uint64_t end = 0;
        std::uint64_t rest = 0;
    } message;
    static_assert(sizeof message == protocol::kMessageSize);
    message.start = reinterpret_cast<std::uintptr_t>(guest.address(100));
    message.end = message.start + 2 * kPage;
    std::memcpy(slot.bytes, &message, sizeof message);
    auto worker = broker.start_ready();
    EXPECT_TRUE(TestImage::matches(guest.address(99), 99));
    EXPECT_TRUE(guest.is_zero(100));
    EXPECT_TRUE(guest.is_zero(101));
    EXPECT_TRUE(TestImage::matches(guest.address(102), 102));
    EXPECT_EQ(slot.bytes[0], std::byte{0});
    EXPECT_EQ(broker.counters().replayed_messages, 1U);
}

// A fault whose message died with its reader: only the waking of all waiters brings it back.
TEST_P(Survive, AFaultReadByADeadWorkerIsServed) {
    const HangGuard guard(30);
    const TestImage image(kSurvivorSize);
    const Guest guest({.size = kSurvivorSize});
    Broker broker(image, guest, options());
    std::atomic<bool> right = false;
    std::thread toucher([&] { right = TestImage::matches(guest.address(77), 77); });
    pollfd pending{.fd = guest.uffd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&pending, 1, 5000), 1);
    std::byte message[32];
    ASSERT_EQ(::read(guest.uffd(), message, sizeof message), 32); // and forgotten
    auto worker = broker.start_ready();
    toucher.join();
    EXPECT_TRUE(right);
}

TEST_P(Survive, AStoppedWorkerIsSeen) {
    const HangGuard guard(30);
    const TestImage image(kSurvivorSize);
    const Guest guest({.size = kSurvivorSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    EXPECT_TRUE(TestImage::matches(guest.address(1), 1));
    worker.signal(SIGSTOP);
    const auto heartbeat = broker.state().heartbeat_ns.load();
    std::thread toucher([&] { EXPECT_TRUE(TestImage::matches(guest.address(2), 2)); });
    // A message waits in the kernel and nobody comes: poll() sees it and takes nothing away.
    const auto unread = [&] {
        pollfd pending{.fd = guest.uffd(), .events = POLLIN, .revents = 0};
        return ::poll(&pending, 1, 0) == 1;
    };
    EXPECT_TRUE(eventually(unread));
    std::this_thread::sleep_for(milliseconds(50));
    EXPECT_TRUE(unread());
    EXPECT_EQ(broker.state().heartbeat_ns, heartbeat);
    worker.kill();
    worker = broker.start_ready();
    toucher.join();
}

TEST_P(Survive, ASecondWorkerDoesNotRead) {
    const HangGuard guard(30);
    const TestImage image(kSurvivorSize);
    const Guest guest({.size = kSurvivorSize});
    Broker broker(image, guest, options());
    auto worker = broker.start_ready();
    EXPECT_EQ(broker.memory().worker_lock_holder().value(), worker.pid());
    auto second = broker.start();
    const auto message = second.receive();
    ASSERT_TRUE(message);
    ASSERT_EQ(message->type, protocol::ControlType::Failed);
    EXPECT_EQ(message->failed.reason, protocol::FailureReason::LockHeld);
    EXPECT_TRUE(message->failed.fatal);
    EXPECT_EQ(second.wait(), 1);
    EXPECT_EQ(broker.state().generation, 1U);
    EXPECT_TRUE(TestImage::matches(guest.address(9), 9));
    worker.kill();
    EXPECT_EQ(broker.memory().worker_lock_holder().value(), std::nullopt);
}

class ControlSocket {
public:
    ControlSocket() { listen(); }
    std::string path() const { return directory_ / "control"; }
    void listen() {
        auto fd = listen_unix(path(), SOCK_SEQPACKET, 8);
        ASSERT_TRUE(fd) << fd.error().message();
        socket_ = std::move(*fd);
    }
    void close() {
        socket_.reset();
        static_cast<void>(remove_if_exists(path()));
    }
    // Invalid after `limit` without a connection.
    Fd accept(milliseconds limit = milliseconds(5000)) const {
        pollfd waiting{.fd = socket_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&waiting, 1, static_cast<int>(limit.count())) != 1) return Fd();
        return Fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }

private:
    TemporaryDirectory directory_;
    Fd socket_;
};

Result<protocol::ControlMessage> next_message(const Fd& socket) {
    pollfd waiting{.fd = socket.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, 5000) != 1) return fail(ETIMEDOUT, "no message");
    return protocol::receive_control(socket.get());
}

bool same_file(int a, int b) {
    const auto first = identify(a);
    const auto second = identify(b);
    return first && second && first->device == second->device && first->inode == second->inode;
}

TEST_P(Survive, DialsInWhenTheBrokerDies) {
    const HangGuard guard(30);
    TestImage image(kSurvivorSize);
    image.lay_over(2);
    const Guest guest({.size = kSurvivorSize});
    ControlSocket control;
    auto with = options();
    with.control_path = control.path();
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    worker.close_channel();
    Fd connection = control.accept();
    ASSERT_TRUE(connection);
    auto message = next_message(connection);
    ASSERT_TRUE(message) << message.error().message();
    ASSERT_EQ(message->type, protocol::ControlType::Hello);
    const auto& hello = message->hello;
    EXPECT_EQ(hello.session_id, broker.memory().info().session_id);
    EXPECT_TRUE(same_file(hello.session.get(), broker.memory().fd()));
    EXPECT_TRUE(same_file(hello.memory.get(), image.memory()));
    EXPECT_TRUE(same_file(hello.map.get(), image.map()));
    EXPECT_TRUE(hello.uffd && hello.vmm_pidfd);
    EXPECT_TRUE(same_file(hello.layers.get(), image.layers()));
    ASSERT_EQ(hello.bases.size(), 2U);
    EXPECT_TRUE(same_file(hello.bases[1].get(), image.bases()[1].get()));
    // The descriptors we got are ours to close; the worker's lock is none of them.
    message = fail(ENODATA, "dropped");
    EXPECT_EQ(broker.memory().worker_lock_holder().value(), worker.pid());
    EXPECT_TRUE(TestImage::matches(guest.address(5), 5));
    // More deaths of brokers than it has spare sockets, each greeted with fresh ones.
    for (int death = 0; death < 24; ++death) {
        protocol::WelcomeMessage welcome;
        welcome.spares = protocol::make_spare_sockets(2).value();
        ASSERT_TRUE(protocol::send_control(connection.get(), protocol::encode(welcome)));
        connection.reset();
        connection = control.accept();
        ASSERT_TRUE(connection) << death;
        // What a broker leaves unread when it closes costs its peer what was sent.
        ASSERT_TRUE(next_message(connection)) << death;
    }
    EXPECT_TRUE(TestImage::matches(guest.address(6), 6));
}

TEST_P(Survive, ServesWithoutAnyBroker) {
    const HangGuard guard(30);
    const TestImage image(kSurvivorSize);
    const Guest guest({.size = kSurvivorSize});
    ControlSocket control;
    auto with = options();
    with.control_path = control.path();
    Broker broker(image, guest, std::move(with));
    auto worker = broker.start_ready();
    control.close();
    worker.close_channel();
    for (std::uint64_t page = 0; page < 200; ++page) {
        EXPECT_TRUE(TestImage::matches(guest.address(page), page));
        if (page % 50 == 0) std::this_thread::sleep_for(milliseconds(10));
    }
    control.listen();
    const Fd connection = control.accept();
    ASSERT_TRUE(connection);
    const auto message = next_message(connection);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->type, protocol::ControlType::Hello);
}

} // namespace
} // namespace thaw::test
