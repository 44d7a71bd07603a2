// SPDX-License-Identifier: MIT
#include "config/json.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace thaw {
namespace {

std::string problem(std::string_view text) {
    const auto document = JsonDocument::parse(text);
    if (document) return "";
    EXPECT_EQ(document.error().code(), EBADMSG);
    return document.error().message();
}

TEST(Json, ReadsMembers) {
    const auto document = JsonDocument::parse(
        R"({"s": "text", "u": 18446744073709551615, "i": -5, "b": true, "n": null,
            "o": {"inner": [1, {"x": "y"}]}, "f": 1.5})"
    );
    ASSERT_TRUE(document);
    const auto root = document->root();
    EXPECT_TRUE(root.is_object());
    EXPECT_EQ(root.string("s").value(), "text");
    EXPECT_EQ(root.unsigned_number("u").value(), UINT64_MAX);
    EXPECT_EQ(root.at("i")->as_integer().value(), -5);
    EXPECT_TRUE(root.boolean("b").value());
    EXPECT_FALSE(root.has("n"));
    EXPECT_FALSE(root.has("missing"));
    const auto inner = root.at("o")->at("inner")->elements().value();
    ASSERT_EQ(inner.size(), 2U);
    EXPECT_EQ(inner[1].path(), "o.inner[1]");
    EXPECT_EQ(inner[1].string("x").value(), "y");
    EXPECT_EQ(root.members().size(), 7U);
    EXPECT_TRUE(root.at("o")->at("inner")->is_array());
}

TEST(Json, ErrorsNameTheMember) {
    const auto document = JsonDocument::parse(R"({"m": {"size": -1, "big": 1e300, "t": "x"}})");
    const auto m = document->root().at("m").value();
    EXPECT_EQ(m.unsigned_number("size").error().message(), "m.size: expected an unsigned number");
    EXPECT_EQ(m.unsigned_number("size").error().code(), EBADMSG);
    EXPECT_EQ(m.unsigned_number("big").error().code(), EBADMSG);
    EXPECT_EQ(m.unsigned_number("t").error().code(), EBADMSG);
    EXPECT_EQ(m.string("size").error().message(), "m.size: expected a string");
    EXPECT_EQ(m.boolean("t").error().message(), "m.t: expected true or false");
    EXPECT_EQ(m.string("none").error().message(), "m.none: missing");
    EXPECT_EQ(m.string("none").error().code(), ENOENT);
    EXPECT_EQ(m.elements().error().message(), "m: expected an array");
    EXPECT_EQ(m.at("t")->at("deeper").error().message(), "m.t: expected an object");
    EXPECT_EQ(document->root().as_string().error().message(), "document: expected a string");
    EXPECT_TRUE(m.at("t")->members().empty());
}

TEST(Json, IntegersBeyondTheirType) {
    const auto document =
        JsonDocument::parse(R"([18446744073709551615, 18446744073709551616, 1.0])");
    const auto items = document->root().elements().value();
    EXPECT_EQ(items[0].as_integer().error().code(), ERANGE);
    EXPECT_EQ(items[1].as_unsigned().error().code(), EBADMSG); // never a rounded number
    EXPECT_EQ(items[2].as_unsigned().error().code(), EBADMSG);
    const nlohmann::json built = {{"n", 5}, {"m", -5}};
    EXPECT_EQ(JsonView(&built, "").unsigned_number("n").value(), 5U);
    EXPECT_FALSE(JsonView(&built, "").unsigned_number("m"));
}

TEST(Json, FallbacksAreForWhatIsAbsentOnly) {
    const auto document = JsonDocument::parse(R"({"s": 1, "u": "1", "b": 0, "n": null})");
    const auto root = document->root();
    EXPECT_EQ(root.string_or("x", "f").value(), "f");
    EXPECT_EQ(root.unsigned_or("n", 7).value(), 7U);
    EXPECT_TRUE(root.boolean_or("x", true).value());
    EXPECT_EQ(root.unsigned_or("s", 7).value(), 1U);
    EXPECT_EQ(root.string_or("s", "f").error().code(), EBADMSG);
    EXPECT_EQ(root.unsigned_or("u", 7).error().code(), EBADMSG);
    EXPECT_EQ(root.boolean_or("b", true).error().code(), EBADMSG);
    EXPECT_EQ(
        JsonDocument::parse("[]")->root().unsigned_or("x", 1).error().code(), EBADMSG
    ); // not even an object
}

TEST(Json, BadTextSaysWhere) {
    EXPECT_NE(problem("{\n \"a\": }").find("line 2, column 7"), std::string::npos);
    for (const char* text :
         {"", " ", "{", "[1,]", "{\"a\":1,}", "nul", "'x'", "1 2", "\"\\u12\"", "\"\\ud800\"",
          "\"\xff\"", "\"a\nb\"", "01", "-", "// c\n1", "1e999"})
        EXPECT_TRUE(problem(text).starts_with("bad JSON: ")) << text;
    EXPECT_EQ(problem(std::string_view("{}\0junk", 7)), "bad JSON: a NUL byte");
    EXPECT_EQ(problem("{\"a\":1}").find("exception"), std::string::npos);
    EXPECT_EQ(problem("nul").find("exception"), std::string::npos);
}

TEST(Json, WhatItSaysIsFitForTheBus) {
    for (const char* text : {"\xff", "\"\xff\"", "[\"\xc3\x28\"]", "{\"\xe2\x82\": 1}"}) {
        const auto said = problem(text);
        EXPECT_TRUE(std::all_of(said.begin(), said.end(), [](char c) {
            return static_cast<unsigned char>(c) < 0x80;
        })) << said;
    }
}

TEST(Json, WordsAndLists) {
    enum class Size { Small, Large };
    static constexpr EnumTable kSizes{std::array{
        std::pair{Size::Small, std::string_view("small")},
        std::pair{Size::Large, std::string_view("large")}
    }};
    const auto document =
        JsonDocument::parse(R"({"a": "large", "b": "huge", "c": ["x", "y"], "d": ["x", 1]})");
    ASSERT_TRUE(document);
    const auto root = document->root();
    EXPECT_EQ(*root.word("a", kSizes), Size::Large);
    EXPECT_EQ(root.word("b", kSizes).error().message(), "b: unknown word \"huge\"");
    EXPECT_EQ(root.word("c", kSizes).error().code(), EBADMSG);
    EXPECT_EQ(*root.strings("c"), (std::vector<std::string>{"x", "y"}));
    EXPECT_EQ(root.strings("d").error().message(), "d[1]: expected a string");
    EXPECT_EQ(root.strings("a").error().message(), "a: expected an array");
    EXPECT_EQ(root.strings("none").error().code(), ENOENT);
}

std::string nested(std::size_t levels) {
    return std::string(levels, '[') + std::string(levels, ']');
}

TEST(Json, DepthIsLimited) {
    EXPECT_EQ(problem(nested(32)), "");
    EXPECT_EQ(problem(nested(33)), "bad JSON: nested deeper than 32 levels");
    EXPECT_EQ(problem(std::string(1000000, '[')), "bad JSON: nested deeper than 32 levels");
    std::string objects;
    for (int i = 0; i < 33; ++i)
        objects += "{\"a\":";
    EXPECT_EQ(problem(objects), "bad JSON: nested deeper than 32 levels");
}

TEST(Json, AMemberMayNotComeTwice) {
    EXPECT_EQ(problem(R"({"a": 1, "b": {"a": 1}, "a": 2})"), "bad JSON: member \"a\" comes twice");
    EXPECT_EQ(problem(R"({"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]})"), "");
    EXPECT_NE(problem(R"({"a": 1, "\u0061": 2})"), "");
}

TEST(Json, DumpNeverThrows) {
    const nlohmann::json value = {{"bytes", "\xff\xfe"}, {"n", 1}};
    EXPECT_EQ(json_dump(value), "{\"bytes\":\"\xef\xbf\xbd\xef\xbf\xbd\",\"n\":1}");
    EXPECT_EQ(json_dump(nlohmann::json::array({1}), 2), "[\n  1\n]");
}

} // namespace
} // namespace thaw
