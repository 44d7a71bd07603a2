// SPDX-License-Identifier: MIT
// What is asked of a session while it serves, with real workers: recordings, replay, the barrier of
// a snapshot, and every page in.
#include "api/pager1.hpp"
#include "bus/errors.hpp"
#include "core/file.hpp"
#include "fixture.hpp"
#include "image/access_log.hpp"
#include "image/manifest.hpp"
#include "image/memory_map.hpp"
#include "image/memory_reader.hpp"
#include "image/page_bitmap.hpp"
#include "image/working_set.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace thaw::pagerd {
namespace {

constexpr auto kId = "00112233445566778899aabbccddeeff";

class Control : public PagerdTest {
protected:
    void SetUp() override {
        PagerdTest::SetUp();
        // Whoever else uses the machine must not hold the replay up.
        if (bus_) write_config("MemoryPressureLimit=0\nIOPressureLimit=0");
    }
    // CreateSession with further files and options.
    std::string create_with(
        const std::string& name, int working_set, const std::function<void(BusMessage&)>& options
    ) {
        auto message = new_call("CreateSession");
        EXPECT_TRUE(message.append("ss", name.c_str(), unit_of(name).c_str()));
        EXPECT_TRUE(message.open_container('a', "{sh}"));
        EXPECT_TRUE(message.append("{sh}", "memory", image_.get()));
        if (map_) {
            EXPECT_TRUE(message.append("{sh}", "map", map_.get()));
        }
        if (working_set >= 0) {
            EXPECT_TRUE(message.append("{sh}", "working-set", working_set));
        }
        EXPECT_TRUE(message.close_container());
        EXPECT_TRUE(message.open_container('a', "{sv}"));
        EXPECT_TRUE(message.append("{sv}", "ImageId", "s", kId));
        options(message);
        EXPECT_TRUE(message.close_container());
        EXPECT_TRUE(message.append("t", std::uint64_t{0}));
        return call(std::move(message)).error;
    }
    VmmProcess serve_with(
        const std::string& name, int working_set, const std::function<void(BusMessage&)>& options
    ) {
        EXPECT_EQ(create_with(name, working_set, options), "");
        auto vmm = make_vmm(name);
        vmm.connect();
        EXPECT_TRUE(answer(vmm));
        EXPECT_TRUE(wait_state(name, "serving"));
        return vmm;
    }
    static std::function<void(BusMessage&)> flag_option(const char* key, bool on) {
        return [=](BusMessage& m) { EXPECT_TRUE(m.append("{sv}", key, "b", on ? 1 : 0)); };
    }
    // The pages that TakeDirty names.
    std::vector<std::uint64_t> dirty(const std::string& name) {
        auto reply = change(name, "TakeDirty");
        EXPECT_EQ(reply.error, "");
        std::vector<std::uint64_t> pages;
        int fd = -1;
        if (!reply.error.empty() || !reply.message.read("h", &fd)) return pages;
        const auto bitmap = image::PageBitmap::load(fd, kPages);
        EXPECT_TRUE(bitmap);
        EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1) << "sealed";
        for (std::uint64_t page = 0; bitmap && page < kPages; ++page)
            if (bitmap->test(page)) pages.push_back(page);
        return pages;
    }
    Reply change(const std::string& name, const char* member) {
        auto message =
            *bus_->new_call(pager1::kBusName, path_of(name), pager1::kSessionInterface, member);
        EXPECT_TRUE(message.append("t", std::uint64_t{0}));
        return call(std::move(message));
    }
    image::ImageId id() const { return *image::parse_id(kId); }
    void make_map() {
        auto bytes = image::build_memory_map(image_.get(), id(), [](std::uint64_t, std::uint64_t) {
            return true;
        });
        ASSERT_TRUE(bytes);
        map_ = Fd(::memfd_create("map", MFD_CLOEXEC));
        ASSERT_TRUE(write_all(map_.get(), *bytes));
    }
    // A working set of these pages of the test's image, or of an image with another id.
    Fd make_working_set(std::vector<std::uint32_t> pages) {
        const auto map = image::MemoryMap::load(map_.get(), id());
        EXPECT_TRUE(map);
        const image::AccessLog log{.id = id(), .page_count = kPages, .pages = std::move(pages)};
        Fd fd(::memfd_create("working-set", MFD_CLOEXEC));
        const auto written =
            image::write_working_set(fd.get(), log, image::MemoryReader(image_.get()), *map);
        EXPECT_TRUE(written) << written.error().message();
        return fd;
    }

    Fd map_;
};

TEST_F(Control, ARecordingBringsFirstTouchesInOrder) {
    start_daemon();
    auto vmm = serve_with("a", -1, flag_option("Recording", true));
    EXPECT_TRUE(flag("a", "Recording"));
    for (const std::uint64_t page : {17U, 3U, 99U, 3U})
        EXPECT_TRUE(check_pages(vmm, page, 1));
    EXPECT_TRUE(until([&] { return number("a", "Touches", 't') == 3; }));
    auto reply = change("a", "TakeRecording");
    ASSERT_EQ(reply.error, "");
    int fd = -1;
    ASSERT_TRUE(reply.message.read("h", &fd));
    const auto log = image::load_access_log(fd, id(), kPages);
    ASSERT_TRUE(log) << log.error().message();
    EXPECT_EQ(log->pages, (std::vector<std::uint32_t>{17, 3, 99}));
    EXPECT_FALSE(log->settled);
    EXPECT_LT(::ftruncate(fd, 0), 0) << "it is sealed";
    // Nothing can be loaded ahead of it.
    auto prefetch =
        *bus_->new_call(pager1::kBusName, path_of("a"), pager1::kSessionInterface, "SetPrefetch");
    ASSERT_TRUE(prefetch.append("a{sv}t", 1, "Prefetch", "b", 1, std::uint64_t{0}));
    EXPECT_EQ(call(std::move(prefetch)).error, "org.freedesktop.DBus.Error.InvalidArgs");
}

TEST_F(Control, ARecordingOutlivesWorkerAndBroker) {
    start_daemon();
    auto vmm = serve_with("a", -1, flag_option("Recording", true));
    EXPECT_TRUE(check_pages(vmm, 5, 1));
    // The guest has its page a moment before the worker has noted it.
    EXPECT_TRUE(until([&] { return number("a", "Touches", 't') == 1; }));
    const auto worker = static_cast<pid_t>(number("a", "WorkerPID"));
    ::kill(worker, SIGKILL);
    EXPECT_TRUE(check_pages(vmm, 6, 1));
    kill_daemon();
    start_daemon();
    ASSERT_TRUE(until([&] { return text("a", "State") == "serving" && !flag("a", "Adopting"); }));
    EXPECT_TRUE(check_pages(vmm, 4, 1));
    EXPECT_TRUE(until([&] { return number("a", "Touches", 't') == 3; }));
    auto reply = change("a", "TakeRecording");
    ASSERT_EQ(reply.error, "");
    int fd = -1;
    ASSERT_TRUE(reply.message.read("h", &fd));
    EXPECT_EQ(
        image::load_access_log(fd, id(), kPages)->pages, (std::vector<std::uint32_t>{5, 6, 4})
    );
}

TEST_F(Control, AWorkingSetIsReplayed) {
    make_map();
    start_daemon();
    std::vector<std::uint32_t> pages;
    for (std::uint32_t page = 100; page < 300; ++page)
        pages.push_back(page);
    const auto set = make_working_set(pages);
    auto vmm = serve_with("a", set.get(), flag_option("Prefetch", true));
    ASSERT_TRUE(until([&] { return text("a", "ReplayState") == "done"; }))
        << text("a", "ReplayState") << " " << text("a", "ReplayReason");
    EXPECT_EQ(number("a", "BytesReplay", 't'), 200 * 4096U);
    EXPECT_GT(number("a", "WorkingSetUSec", 't'), 0U);
    // In memory, so not past the page cache; root may register buffers.
    const bool uring = text("a", "Engine") == "io_uring";
    EXPECT_EQ(text("a", "ReplayIO"), uring ? "buffered-registered" : "buffered");
    const auto faults = number("a", "Faults", 't');
    EXPECT_TRUE(check_pages(vmm, 100, 200));
    EXPECT_EQ(number("a", "Faults", 't'), faults) << "they were all there";
    EXPECT_EQ(keeper_->count(".replay"), 1U);
}

TEST_F(Control, AForeignOrDamagedWorkingSetIsIgnoredAndSaidWhy) {
    make_map();
    start_daemon();
    const auto set = make_working_set({1, 2, 3});
    const auto byte = std::byte{0x5a};
    ASSERT_EQ(::pwrite(set.get(), &byte, 1, 40), 1);
    auto vmm = serve_with("a", set.get(), flag_option("Prefetch", true));
    ASSERT_TRUE(until([&] { return text("a", "ReplayState") == "refused"; }));
    EXPECT_NE(text("a", "ReplayReason"), "none");
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
}

TEST_F(Control, PrefetchIsSwitchedAtRunTime) {
    make_map();
    start_daemon();
    const auto set = make_working_set({10, 11, 12});
    auto vmm = serve_with("a", set.get(), flag_option("Prefetch", false));
    EXPECT_FALSE(flag("a", "Prefetch"));
    EXPECT_TRUE(check_pages(vmm, 0, 1));
    EXPECT_EQ(number("a", "BytesReplay", 't'), 0U);
    auto message =
        *bus_->new_call(pager1::kBusName, path_of("a"), pager1::kSessionInterface, "SetPrefetch");
    ASSERT_TRUE(message.append(
        "a{sv}t", 2, "Prefetch", "b", 1, "PrefetchRate", "t", std::uint64_t{1 << 30},
        std::uint64_t{0}
    ));
    EXPECT_EQ(call(std::move(message)).error, "");
    EXPECT_EQ(number("a", "PrefetchRate", 't'), 1U << 30);
    EXPECT_TRUE(until([&] { return number("a", "BytesReplay", 't') == 3U * std::uint64_t{4096}; }));
}

TEST_F(Control, QuiesceIsABarrierAndFaultsAreServedBehindIt) {
    start_daemon();
    auto vmm = serve("a");
    EXPECT_EQ(change("a", "Quiesce").error, "");
    EXPECT_TRUE(flag("a", "Quiesced"));
    EXPECT_EQ(number("a", "Parked", 't'), 0U);
    EXPECT_TRUE(check_pages(vmm, 0, 8));
    EXPECT_EQ(change("a", "Resume").error, "");
    EXPECT_TRUE(until([&] { return !flag("a", "Quiesced"); }));
    ASSERT_EQ(create("b"), "");
    EXPECT_EQ(change("b", "Quiesce").error, pager1::error::kNotServing);
    EXPECT_EQ(change("b", "Complete").error, pager1::error::kNotServing);
    EXPECT_EQ(change("a", "TakeRecording").error, pager1::error::kNotRecording);
}

TEST_F(Control, CompleteLetsTheVmGo) {
    start_daemon();
    auto vmm = serve("a");
    EXPECT_TRUE(check_pages(vmm, 0, 16));
    vmm.discard(4, 4);
    EXPECT_TRUE(answer(vmm));
    const auto worker = static_cast<pid_t>(number("a", "WorkerPID"));
    EXPECT_EQ(change("a", "Complete").error, "");
    ASSERT_TRUE(wait_state("a", "complete"));
    EXPECT_EQ(number("a", "PopulateDone", 't'), kMemory);
    EXPECT_TRUE(until([&] { return ::kill(worker, 0) != 0; })) << "the worker was let go";
    EXPECT_EQ(number("a", "WorkerRestarts"), 0U);
    // What was given back reads as zeros, all else as the image; giving back goes on to work.
    vmm.check_zeros(4, 4);
    EXPECT_TRUE(answer(vmm));
    EXPECT_TRUE(check_pages(vmm, 8, kPages - 8));
    vmm.discard(20, 4);
    EXPECT_TRUE(answer(vmm));
    vmm.check_zeros(20, 4);
    EXPECT_TRUE(answer(vmm));
    // The broker has nothing left to lose, and the next one knows.
    kill_daemon();
    start_daemon();
    EXPECT_TRUE(wait_state("a", "complete"));
    EXPECT_EQ(number("a", "WorkerPID"), 0U);
    EXPECT_TRUE(check_pages(vmm, 8, 12));
    EXPECT_EQ(change("a", "Quiesce").error, "");
    vmm.kill();
    EXPECT_TRUE(until([&] { return removed_ == std::vector<std::string>{"a:vmm-exited"}; }));
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); }));
}

// The worker serves on, and is the only one to read: whatever the broker took would be lost.
TEST_F(Control, AVmThatCannotBeLetGoIsServedOn) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    auto how = behaviour("a");
    how.regions = 2;
    auto vmm = make_vmm("a", how);
    vmm.connect();
    ASSERT_TRUE(answer(vmm));
    ASSERT_TRUE(wait_state("a", "serving"));
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    vmm.unmap(0, kPages / 2); // nothing is left to unregister there
    ASSERT_TRUE(answer(vmm));
    EXPECT_EQ(change("a", "Complete").error, "");
    ASSERT_TRUE(until([&] { return number("a", "PopulateDone", 't') == kMemory; }));
    fakes::run_for(*loop_, 200 * kUsecPerMsec);
    EXPECT_EQ(text("a", "State"), "serving");
    for (std::uint64_t page = kPages / 2; page < kPages; page += 4) {
        vmm.discard(page, 4);
        ASSERT_TRUE(answer(vmm)) << page;
        vmm.check_zeros(page, 4);
        ASSERT_TRUE(answer(vmm)) << page;
    }
}

// ---- what the guest writes ------------------------------------------------------------------

TEST_F(Control, WritesAreNotedWhileWorkerAndBrokerDie) {
    start_daemon();
    auto vmm = serve_with("a", -1, [](BusMessage& message) {
        EXPECT_TRUE(message.append("{sv}", "Track", "b", 1));
    });
    EXPECT_EQ(text("a", "Tracking"), "armed");
    EXPECT_EQ(text("a", "ImageId"), kId);
    EXPECT_TRUE(check_pages(vmm, 0, 16));
    vmm.write_pages(3, 2);
    EXPECT_TRUE(answer(vmm));
    EXPECT_EQ(dirty("a"), (std::vector<std::uint64_t>{3, 4}));
    EXPECT_EQ(number("a", "DirtyPages", 't'), 2U);
    ::kill(static_cast<pid_t>(number("a", "WorkerPID")), SIGKILL);
    vmm.write_pages(100, 1); // waits for the next one
    EXPECT_TRUE(answer(vmm));
    kill_daemon();
    vmm.write_pages(7, 1); // the worker serves on
    EXPECT_TRUE(answer(vmm));
    start_daemon();
    ASSERT_TRUE(until([&] { return text("a", "State") == "serving" && !flag("a", "Adopting"); }));
    vmm.discard(9, 1);
    EXPECT_TRUE(answer(vmm));
    EXPECT_EQ(dirty("a"), (std::vector<std::uint64_t>{3, 4, 7, 9, 100}));
    EXPECT_EQ(change("a", "StopTracking").error, "");
    EXPECT_EQ(text("a", "Tracking"), "off");
    EXPECT_EQ(change("a", "TakeDirty").error, pager1::error::kNotTracking);
}

TEST_F(Control, TrackingBeginsLaterAndKeepsTheVmFromBeingLetGo) {
    start_daemon();
    auto vmm = serve("a");
    vmm.write_pages(0, 8);
    EXPECT_TRUE(answer(vmm));
    EXPECT_EQ(change("a", "TakeDirty").error, pager1::error::kNotTracking);
    EXPECT_EQ(change("a", "StartTracking").error, "");
    vmm.write_pages(2, 1);
    EXPECT_TRUE(answer(vmm));
    EXPECT_EQ(change("a", "Complete").error, "");
    EXPECT_TRUE(until([&] { return text("a", "PopulateState") == "done"; }));
    vmm.write_pages(500, 1);
    EXPECT_TRUE(answer(vmm));
    EXPECT_EQ(dirty("a"), (std::vector<std::uint64_t>{2, 500}));
    EXPECT_EQ(text("a", "State"), "serving");
    // Then it is let go after all.
    EXPECT_EQ(change("a", "StopTracking").error, "");
    EXPECT_TRUE(wait_state("a", "complete"));
    vmm.write_pages(0, kPages);
    EXPECT_TRUE(answer(vmm));
    EXPECT_EQ(change("a", "StartTracking").error, pager1::error::kNotServing);
}

TEST_F(Control, ASessionRecordsOrTracks) {
    start_daemon();
    const auto both = create_with("a", -1, [](BusMessage& message) {
        EXPECT_TRUE(message.append("{sv}", "Track", "b", 1));
        EXPECT_TRUE(message.append("{sv}", "Recording", "b", 1));
    });
    EXPECT_EQ(both, kErrorInvalidArgs);
    EXPECT_EQ(keeper_->stored().size(), 0U);
}

TEST_F(Control, CompleteWhileTheBrokerDies) {
    start_daemon();
    auto vmm = serve("a");
    EXPECT_EQ(change("a", "Complete").error, "");
    kill_daemon();
    start_daemon();
    EXPECT_TRUE(wait_state("a", "complete"));
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
}

} // namespace
} // namespace thaw::pagerd
