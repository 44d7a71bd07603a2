// SPDX-License-Identifier: MIT
#include "api/source_errors.hpp"
#include "core/scm.hpp"
#include "protocol/fetch_control.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <random>
#include <set>

namespace thaw::protocol {
namespace {

Fd memfd(const char* name) {
    return Fd(::memfd_create(name, MFD_CLOEXEC));
}

FetchMessage a_fetch() {
    FetchMessage message;
    message.type = FetchType::Fetch;
    message.id = 7;
    message.url = "https://example.org/memory";
    message.identity = {1 << 20, "\"tag\"", "Mon, 01 Jan 2024 00:00:00 GMT"};
    message.offset = 4096;
    message.length = 8192;
    message.target_offset = 65536;
    message.target = memfd("target");
    return message;
}

std::vector<Fd> copies(const std::vector<int>& fds) {
    std::vector<Fd> made;
    for (const int fd : fds)
        made.emplace_back(::dup(fd));
    return made;
}

Result<FetchMessage> there_and_back(const FetchMessage& message) {
    THAW_TRY(const auto encoded, encode_fetch(message));
    return decode_fetch(encoded.data, copies(encoded.fds));
}

TEST(FetchControl, EveryMessageSurvives) {
    const auto fetch = there_and_back(a_fetch());
    ASSERT_TRUE(fetch) << fetch.error().message();
    const auto sent = a_fetch();
    EXPECT_EQ(fetch->id, 7U);
    EXPECT_EQ(fetch->url, sent.url);
    EXPECT_EQ(fetch->identity, sent.identity);
    EXPECT_EQ(fetch->offset, 4096U);
    EXPECT_EQ(fetch->length, 8192U);
    EXPECT_EQ(fetch->target_offset, 65536U);
    EXPECT_TRUE(fetch->target);
    EXPECT_FALSE(fetch->source);

    auto of_file = a_fetch();
    of_file.url.clear();
    of_file.source = memfd("source");
    const auto file = there_and_back(of_file);
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_TRUE(file->target && file->source);

    FetchMessage put;
    put.type = FetchType::Put;
    put.url = "https://example.org/x";
    put.length = 5;
    put.source = memfd("source");
    EXPECT_EQ(there_and_back(put)->length, 5U);

    FetchMessage done;
    done.type = FetchType::Done;
    done.landed = 3;
    done.tries = 2;
    done.identity = sent.identity;
    EXPECT_EQ(there_and_back(done)->identity, sent.identity);

    FetchMessage failed;
    failed.type = FetchType::Failed;
    failed.error = FetchError::Changed;
    failed.errno_value = ESTALE;
    failed.retryable = true;
    failed.text = "because";
    const auto back = there_and_back(failed);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->error, FetchError::Changed);
    EXPECT_EQ(back->errno_value, ESTALE);
    EXPECT_TRUE(back->retryable);
    EXPECT_EQ(back->text, "because");
    for (const auto type : {FetchType::Probe, FetchType::Cancel, FetchType::Progress}) {
        FetchMessage bare;
        bare.type = type;
        EXPECT_EQ(there_and_back(bare)->type, type);
    }
}

TEST(FetchControl, RangesMustLieInTheObject) {
    const auto code = [](auto change) {
        auto message = a_fetch();
        change(message);
        const auto back = there_and_back(message);
        return back ? 0 : back.error().code();
    };
    EXPECT_EQ(code([](FetchMessage&) {}), 0);
    EXPECT_EQ(code([](FetchMessage& m) { m.length = 0; }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.offset = 1 << 20; }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.length = UINT64_MAX; }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.offset = UINT64_MAX; }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.target_offset = INT64_MAX - 1; }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.identity.length = UINT64_MAX; }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.identity.etag = "\"a\r\nHost: b\""; }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.url = std::string(kFetchMaxUrl + 1, 'x'); }), EMSGSIZE);
    EXPECT_EQ(code([](FetchMessage& m) { m.source = memfd("too many"); }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.target.reset(); }), EBADMSG);
    EXPECT_EQ(code([](FetchMessage& m) { m.url.clear(); }), EBADMSG);
}

TEST(FetchControl, NothingHostileIsTaken) {
    const auto message = a_fetch();
    const auto good = encode_fetch(message);
    ASSERT_TRUE(good);
    for (std::size_t size = 0; size < good->data.size(); ++size) {
        const auto part = std::span(good->data).first(size);
        EXPECT_FALSE(decode_fetch(part, copies(good->fds))) << size;
    }
    auto longer = good->data;
    longer.push_back({});
    EXPECT_FALSE(decode_fetch(longer, copies(good->fds)));
    auto other_version = good->data;
    other_version[4] ^= std::byte{1};
    EXPECT_EQ(decode_fetch(other_version, copies(good->fds)).error().code(), EPROTONOSUPPORT);
    std::minstd_rand random(1);
    for (int i = 0; i < 20000; ++i) {
        auto bytes = good->data;
        for (int flips = 0; flips < 3; ++flips)
            bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        // Must not crash; what is taken lies within limits.
        const auto back = decode_fetch(bytes, copies(good->fds));
        if (!back || back->type != FetchType::Fetch) continue;
        EXPECT_LE(back->offset + back->length, back->identity.length);
        EXPECT_LE(back->url.size(), kFetchMaxUrl);
    }
}

TEST(FetchControl, EveryErrorHasANameOfItsOwn) {
    std::set<std::string_view> names;
    for (std::uint32_t error = 1; error <= kFetchErrorMax; ++error)
        names.insert(fetch_error_name(static_cast<FetchError>(error)));
    EXPECT_EQ(names.size(), kFetchErrorMax);
    for (const auto& row : source_error::kErrors)
        EXPECT_TRUE(names.contains(row.name)) << row.name;
    EXPECT_EQ(source_error::kErrors.size(), names.size());
}

} // namespace
} // namespace thaw::protocol
