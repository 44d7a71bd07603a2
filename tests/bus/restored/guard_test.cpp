// SPDX-License-Identifier: MIT
// With a disk guardian: promises that come late, and writers of a full volume.
#include "api/restore1.hpp"
#include "bus/vtable.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fakes/fake_guard.hpp"
#include "fakes/must.hpp"
#include "fixture.hpp"
#include "log/message_ids.hpp"

namespace thaw::testing {
namespace {

using fakes::must;

// polkit with our rule for members of the group: yes to what is the caller's own, or nobody's.
class FakePolkit {
public:
    explicit FakePolkit(Bus bus) : bus_(std::move(bus)) {
        static const sd_bus_vtable table[] = {
            SD_BUS_VTABLE_START(0),
            SD_BUS_METHOD(
                "CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})",
                (bus_method<FakePolkit, &FakePolkit::method_check>), SD_BUS_VTABLE_UNPRIVILEGED
            ),
            SD_BUS_VTABLE_END,
        };
        slots_.push_back(must(bus_.add_object(
            "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority", table,
            this
        )));
        slots_.push_back(bus_.request_name(
            "org.freedesktop.PolicyKit1",
            [this](const Result<>& done) { owns_name_ = done.has_value(); }
        ));
    }
    FakePolkit(const FakePolkit&) = delete;
    FakePolkit& operator=(const FakePolkit&) = delete;
    bool owns_name() const { return owns_name_; }
    const std::vector<std::string>& owners() const { return owners_; }

    Result<> method_check(BusMessage message) {
        const char *action = nullptr, *key = nullptr, *value = nullptr;
        THAW_CHECK(message.skip("(sa{sv})"));
        THAW_CHECK(message.read("s", &action));
        THAW_CHECK(message.enter_container('a', "{ss}"));
        std::string owner;
        for (;;) {
            THAW_TRY(const bool more, message.enter_container('e', "ss"));
            if (!more) break;
            THAW_CHECK(message.read("ss", &key, &value));
            if (key == std::string_view("owner")) owner = value;
            THAW_CHECK(message.exit_container());
        }
        owners_.push_back(owner);
        return message.reply("(bba{ss})", int{owner == "self" || owner == "none"}, 0, 0U);
    }

private:
    Bus bus_;
    std::vector<std::string> owners_;
    std::vector<BusSlot> slots_;
    bool owns_name_ = false;
};

class GuardTest : public RestoredTest {
protected:
    void SetUp() override {
        RestoredTest::SetUp();
        start_daemon();
    }
    void TearDown() override {
        guard_.reset();
        polkit_.reset();
        RestoredTest::TearDown();
    }
    void start_guard() {
        guard_ = std::make_unique<fakes::FakeGuard>(
            must(private_bus_->connect(*loop_)),
            [this](const std::string& text) { events_.push_back(text); }
        );
        ASSERT_TRUE(wait([this] { return guard_->owns_name(); }));
    }
    Result<std::uint32_t> job_of(Result<BusMessage> reply) {
        if (!reply) return std::unexpected(std::move(reply).error());
        std::uint32_t id = 0;
        const char* path = nullptr;
        THAW_CHECK(reply->read("uo", &id, &path));
        return id;
    }
    std::unique_ptr<fakes::FakeGuard> guard_;
    std::unique_ptr<FakePolkit> polkit_;
};

// The answer comes when the job has ended: nobody must hear it any more.
TEST_F(GuardTest, AVmThatEndsWhileASnapshotWaitsForRoom) {
    ASSERT_TRUE(make_directories(paths::kSnapshots));
    restore_done("a");
    start_guard();
    guard_->hold();
    const auto id = job_of(call_manager("SnapshotInstance", [](BusMessage& m) {
        return m.append("ssa{sv}t", "a", "late", 0, std::uint64_t{0});
    }));
    ASSERT_TRUE(id) << id.error().message();
    ASSERT_TRUE(wait([this] { return guard_->has_held(); }));
    systemd_->end_unit(unit_of("a"), "signal");
    EXPECT_EQ(wait_end(*id).error_name, "VmmDied");
    guard_->release();
    fakes::run_for(*loop_, 200 * kUsecPerMsec);
    EXPECT_TRUE(daemon_owned_) << "the daemon is gone";
    EXPECT_EQ(job_property(*id, "State"), "failed");
    expect_clean("a");
}

// An admin's request is under way when the volume becomes full: the VM is paused after it, and
// nothing is reported before that.
TEST_F(GuardTest, AWriterThatIsBeingResumedIsPausedAfterwards) {
    start_guard();
    const auto id = restore("a", "odd");
    ASSERT_TRUE(id);
    ASSERT_EQ(wait_end(*id).result, "done");
    vmm("a").on("PATCH /vm", {.status = 204, .delay = 500 * kUsecPerMsec});
    auto resume = must(bus_->new_call(
        restore1::kBusName, encode_object_path(restore1::kInstancePrefix, "a"),
        restore1::kInstanceInterface, "Resume"
    ));
    std::optional<bool> resumed;
    const auto pending = bus_->call(std::move(resume), [&](const Result<BusMessage>& reply) {
        resumed = reply.has_value();
        events_.push_back("resumed");
    });
    const auto before = count_events("PATCH /vm");
    ASSERT_TRUE(wait([&] { return count_events("PATCH /vm") > before; }));
    vmm("a").on("PATCH /vm", {.status = 204});
    guard_->set_volume("full", "pause");
    ASSERT_TRUE(wait([&] { return event("ReportWriters") != SIZE_MAX; }));
    EXPECT_EQ(resumed, true);
    EXPECT_EQ(instance_state("a"), "paused");
    EXPECT_NE(event("ReportWriters paused 1"), SIZE_MAX);
    EXPECT_LT(event("resumed"), event("ReportWriters"));
    EXPECT_EQ(journal_->find(message_id::kWritersPaused).size(), 1U);
    // And back.
    guard_->set_volume("normal", "continue");
    ASSERT_TRUE(wait([&] { return event("ReportWriters resumed 1") != SIZE_MAX; }));
    EXPECT_EQ(instance_state("a"), "running");
}

// A record job has a VM only during its runs; whose it is does not depend on that.
TEST_F(GuardTest, OthersRecordingsAreNotNobodys) {
    start_guard();
    polkit_ = std::make_unique<FakePolkit>(must(private_bus_->connect(*loop_)));
    ASSERT_TRUE(wait([this] { return polkit_->owns_name(); }));
    pager_->on_session = [](FakeSession& session) {
        session.touches = {1, 2};
        session.faults = [began = now_monotonic()] {
            return std::min<Microseconds>(now_monotonic() - began, 200000) / 100;
        };
    };
    const auto id = job_of(call_manager("RecordImage", [](BusMessage& m) {
        return m.append("sa{sv}t", "base", 0, std::uint64_t{0});
    }));
    ASSERT_TRUE(id) << id.error().message();
    ASSERT_TRUE(wait([this] { return event("StopUnit") != SIZE_MAX; }));
    guard_->hold();
    ASSERT_TRUE(wait([this] { return guard_->has_held(); }));
    ASSERT_EQ(job_property(*id, "State"), "sealing");
    ASSERT_NE(event("InstanceRemoved record-"), SIZE_MAX) << "the VM is still there";
    const auto refused = as_nobody(fmt::format("org.thaw.restore1.Manager CancelJob u {}", *id));
    EXPECT_NE(refused.find("Access denied"), std::string::npos) << refused;
    EXPECT_EQ(polkit_->owners(), std::vector<std::string>{"other"});
    guard_->release();
    EXPECT_EQ(wait_end(*id).result, "done");
}

} // namespace
} // namespace thaw::testing
