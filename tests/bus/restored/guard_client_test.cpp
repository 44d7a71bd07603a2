// SPDX-License-Identifier: MIT
// Room without a guardian that says so: what is told of it, once, and how long it takes.
#include "fakes/bus_fixture.hpp"
#include "fakes/fake_guard.hpp"
#include "guard/guard_client.hpp"

namespace thaw::guard {
namespace {

constexpr Microseconds kTestPatience = 600 * kUsecPerMsec;

class GuardClientTest : public test::BusTest {
protected:
    void SetUp() override {
        test::BusTest::SetUp();
        disk_ = std::move(*Disk::create(*loop));
        bus_.emplace(connect());
        client_.emplace(
            *bus_, *disk_, "tester",
            [this](Trouble trouble, const Error& error) {
                told_.push_back(trouble);
                last_ = error.message();
            },
            kTestPatience
        );
    }
    void start_guard() {
        guard_ = std::make_unique<fakes::FakeGuard>(connect(), [](const std::string&) {});
        ASSERT_TRUE(fakes::run_until(*loop, [this] { return guard_->owns_name(); }));
    }
    // The answer, and how long it took.
    Result<Admission> admit(std::uint64_t bytes = 1) {
        std::optional<Result<Admission>> got;
        const auto begin = now_monotonic();
        const auto asked = client_->admit("/", bytes, "a test", [&](Result<Admission> admitted) {
            got = std::move(admitted);
        });
        EXPECT_FALSE(got) << "never from inside the call";
        if (!fakes::run_until(*loop, [&] { return got.has_value(); }))
            return fail(EIO, "no answer in the test");
        took_ = now_monotonic() - begin;
        return std::move(*got);
    }

    std::unique_ptr<Disk> disk_;
    std::optional<Bus> bus_;
    std::optional<GuardClient> client_;
    std::unique_ptr<fakes::FakeGuard> guard_;
    std::vector<Trouble> told_;
    std::string last_;
    Microseconds took_ = 0;
};

TEST_F(GuardClientTest, NoneIsToldOnceAndTheFileSystemIsLookedAt) {
    EXPECT_TRUE(admit());
    EXPECT_TRUE(admit());
    EXPECT_EQ(told_, std::vector{Trouble::Absent});
    const auto refused = admit(UINT64_MAX);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().bus_name(), diskguard1::error::kNoSpace);
}

TEST_F(GuardClientTest, OneThatIsSilentCostsItsTimeOnce) {
    start_guard();
    EXPECT_TRUE(admit()->lease);
    guard_->hold();
    EXPECT_FALSE(admit()->lease);
    EXPECT_GE(took_, kTestPatience * 9 / 10);
    EXPECT_FALSE(admit()->lease);
    EXPECT_LT(took_, kTestPatience / 2);
    EXPECT_EQ(told_, std::vector{Trouble::Silent});
    guard_->release();
    EXPECT_TRUE(admit()->lease);
    // It was well: what comes then is news again, and has time again.
    guard_->hold();
    EXPECT_FALSE(admit()->lease);
    EXPECT_GE(took_, kTestPatience * 9 / 10);
    EXPECT_EQ(told_, (std::vector{Trouble::Silent, Trouble::Silent}));
}

TEST_F(GuardClientTest, OneThatCannotSayIsNotAbsent) {
    start_guard();
    guard_->answer_with("org.freedesktop.DBus.Error.AccessDenied");
    EXPECT_TRUE(admit());
    EXPECT_EQ(told_, std::vector{Trouble::Failing});
    EXPECT_NE(last_.find("AccessDenied"), std::string::npos) << last_;
    // A path that is on no volume of its is no trouble at all.
    guard_->answer_with(std::string(diskguard1::error::kNoSuchVolume));
    EXPECT_TRUE(admit());
    EXPECT_EQ(told_.size(), 1U);
}

// PID 1 answers in its place, with different names.
TEST_F(GuardClientTest, OneThatIsMaskedIsAbsent) {
    start_guard();
    for (const auto* name :
         {"org.freedesktop.systemd1.UnitMasked", "org.freedesktop.systemd1.NoSuchUnit",
          "org.freedesktop.DBus.Error.FileExists"}) {
        guard_->answer_with(name);
        EXPECT_TRUE(admit());
    }
    EXPECT_EQ(told_, std::vector{Trouble::Absent});
}

TEST_F(GuardClientTest, ADiskThatHangsIsNotWaitedForTwice) {
    start_guard();
    guard_->answer_with(std::string(diskguard1::error::kTimeout));
    const auto refused = admit();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ETIMEDOUT);
    EXPECT_TRUE(told_.empty());
}

} // namespace
} // namespace thaw::guard
