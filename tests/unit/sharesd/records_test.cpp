// SPDX-License-Identifier: MIT
#include "api/shares1.hpp"
#include "core/file.hpp"
#include "records.hpp"

#include <gtest/gtest.h>

#include <filesystem>

namespace thaw::sharesd {
namespace {

Record example() {
    Record record{
        .vm = "a-b",
        .tag = "home",
        .source = "/srv/\"odd\" %i",
        .program = "/usr/libexec/virtiofsd",
        .owner = 1000,
        .started = 12345,
        .dialect = Dialect::Rust,
        .handles = HandleMode::Prefer,
        .handles_reason = "not asked for",
        .limit = 16384
    };
    record.options.limit = 16384;
    record.options.read_only = true;
    record.options.vm_unit = "thaw-firecracker@a\\x2db.service";
    record.options.translate_uid = {"map:1:2:3"};
    record.options.on_loss = OnLoss::Stop;
    record.ready = record.vm_seen = true;
    record.exit = ExitClass::Signal;
    record.error_name = shares1::error::kDaemonKilled;
    record.lost = record.ending = true;
    record.restarts = 3;
    return record;
}

TEST(Record, SurvivesTheWayToTheFileAndBack) {
    const auto text = format_record(example());
    const auto back = parse_record(text);
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(format_record(*back), text);
    EXPECT_TRUE(back->ending);
    EXPECT_EQ(back->options.vm_unit, "thaw-firecracker@a\\x2db.service");
    EXPECT_EQ(back->options.limit, 16384U);
    EXPECT_EQ(back->error_name, shares1::error::kDaemonKilled);
}

TEST(Record, RefusesRubbish) {
    auto text = format_record(example());
    EXPECT_FALSE(parse_record(""));
    EXPECT_FALSE(parse_record("{}"));
    for (const auto& [from, to] :
         {std::pair{"\"a-b\"", "\"a/b\""},
          {"\"rust\"", "\"java\""},
          {"\"version\":1", "\"version\":2"}}) {
        auto bad = text;
        bad.replace(bad.find(from), std::string_view(from).size(), to);
        EXPECT_FALSE(parse_record(bad)) << to;
    }
}

TEST(RecordStore, KeepsThemByNameAndTellsDamagedOnesApart) {
    std::string pattern = "/tmp/thaw-records-XXXXXX";
    const std::string folder = mkdtemp(pattern.data());
    const RecordStore store(folder);
    ASSERT_TRUE(store.save(example()));
    ASSERT_TRUE(write_file_atomic(folder + "/x:y.json", format_record(example())));
    ASSERT_TRUE(write_file_atomic(folder + "/z:z.json", "{"));
    auto content = store.load().value();
    ASSERT_EQ(content.records.size(), 1U);
    EXPECT_EQ(content.records[0].tag, "home");
    EXPECT_EQ(content.damaged.size(), 2U);
    ASSERT_TRUE(store.remove("a-b", "home"));
    ASSERT_TRUE(store.remove("a-b", "home"));
    EXPECT_TRUE(store.load().value().records.empty());
    std::filesystem::remove_all(folder);
}

} // namespace
} // namespace thaw::sharesd
