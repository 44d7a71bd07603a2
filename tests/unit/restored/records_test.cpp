// SPDX-License-Identifier: MIT
#include "records.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace thaw::restore {
namespace {

Record sample() {
    return {
        .name = "a-b",
        .image = "base.1",
        .owner = 1000,
        .state = InstanceState::Restoring,
        .backend = Backend::Uffd,
        .backend_reason = "asked for \"by\" the caller",
        .restored_by = 7,
        .started = 1234567,
        .session = "/org/thaw/pager1/session/a_2db",
        .made = {.unit = true, .session = true, .drop_in = true, .rootfs_device = true},
        .job =
            JobRecord{
                .id = 7,
                .kind = JobKind::Restore,
                .state = JobState::Loading,
                .uid = 1000,
                .started = 99,
            },
    };
}

class RecordStoreTest : public ::testing::Test {
protected:
    void put(const std::string& name, std::string_view text) const {
        std::ofstream(folder_ / name) << text;
    }
    test::TemporaryDirectory folder_;
};

TEST(Record, SurvivesAsText) {
    auto record = sample();
    auto read = parse_record(format_record(record));
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(*read, record);
    record.job.reset();
    record.image.clear();
    read = parse_record(format_record(record));
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(*read, record);
}

TEST(Record, EveryTruncationIsRefused) {
    const auto text = format_record(sample());
    for (std::size_t size = 0; size + 2 < text.size(); ++size)
        EXPECT_FALSE(parse_record(text.substr(0, size))) << size;
}

TEST(Record, EveryMemberIsNeededAndTyped) {
    const auto text = format_record(sample());
    for (const char* member :
         {"version", "name", "image", "owner", "state", "backend", "backend_reason", "restored_by",
          "started", "session", "made", "unit", "drop_in", "ticket", "id", "kind", "uid"}) {
        auto changed = text;
        const auto key = fmt::format("\"{}\":", member);
        const auto at = changed.find(key);
        ASSERT_NE(at, std::string::npos) << member;
        auto renamed = changed;
        renamed.replace(at + 1, 1, "X");
        EXPECT_FALSE(parse_record(renamed)) << member;
        changed.insert(at + key.size(), "[],\"zzz\":");
        EXPECT_FALSE(parse_record(changed)) << member;
    }
}

TEST(Record, WhatCouldNotBeIsRefused) {
    const auto with = [](auto change) {
        auto record = sample();
        change(record);
        return parse_record(format_record(record));
    };
    EXPECT_FALSE(with([](Record& r) { r.name = "../x"; }));
    EXPECT_FALSE(with([](Record& r) { r.image = "../x"; }));
    EXPECT_FALSE(with([](Record& r) { r.job->state = JobState::Done; }));
    auto text = format_record(sample());
    text.replace(text.find("\"version\":1"), 11, "\"version\":2");
    const auto newer = parse_record(text);
    ASSERT_FALSE(newer);
    EXPECT_EQ(newer.error().code(), EPROTONOSUPPORT);
}

TEST_F(RecordStoreTest, LoadsWhatWasSavedAndNamesTheDamaged) {
    const RecordStore store(folder_.path());
    ASSERT_TRUE(store.save(sample()));
    put("bad.json", "{");
    put("other.json", format_record(sample())); // speaks of a-b
    put("a\\x2db.ticket", "");
    put("..%2f.ticket", "");
    put("x.json.tmp", "");
    auto content = store.load();
    ASSERT_TRUE(content) << content.error().message();
    ASSERT_EQ(content->records.size(), 1U);
    EXPECT_EQ(content->records[0], sample());
    EXPECT_EQ(content->damaged.size(), 2U);
    EXPECT_EQ(content->tickets, std::vector<std::string>{"a-b"});
    ASSERT_TRUE(store.remove("a-b"));
    ASSERT_TRUE(store.remove("a-b"));
    EXPECT_TRUE(store.load()->records.empty());
    EXPECT_FALSE(RecordStore(folder_ / "absent").load());
}

TEST_F(RecordStoreTest, NumbersAndPolicyAreKept) {
    const RecordStore store(folder_.path());
    EXPECT_EQ(store.last_job_id().value_or(9), 0U);
    ASSERT_TRUE(store.save_last_job_id(4000000000U));
    EXPECT_EQ(store.last_job_id().value_or(9), 4000000000U);
    put("last-job", "x");
    EXPECT_FALSE(store.last_job_id());

    EXPECT_FALSE(store.load_policy({})->has_value());
    const Policy policy{Backend::Uffd, false, false};
    ASSERT_TRUE(store.save_policy(policy));
    EXPECT_EQ(**store.load_policy({}), policy);
    put("policy", "x");
    EXPECT_FALSE(store.load_policy({}));
}

} // namespace
} // namespace thaw::restore
