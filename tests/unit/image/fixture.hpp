// SPDX-License-Identifier: MIT
#pragma once

// A folder of its own per test with an image root and source files, on a real file system.

#include "image/store.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace thaw::image::testing {

inline constexpr std::uint64_t kMemorySize = 6 << 20; // one and a half chunks of the map

// Page p of the sample memory: zero where p % 5 == 0 or in [700, 900), else bytes made from p.
std::string sample_memory(std::uint64_t size = kMemorySize);
bool sample_page_is_zero(std::uint64_t page);

// A chunk of the map and three pages, a hole among them.
inline constexpr std::uint64_t kRootfsSize = (4 << 20) + 3 * 4096;
std::string sample_rootfs();

class StoreTest : public ::testing::Test {
protected:
    void SetUp() override;
    void TearDown() override;

    std::string path(std::string_view name) const; // below the test's folder
    std::string in_image(std::string_view image, std::string_view file) const;
    void put(const std::string& path, std::string_view content) const;
    std::string get(const std::string& path) const;
    // Changes one byte of a file.
    void flip(const std::string& path, std::size_t at) const;
    Store::Source source() const;
    Store::Source source_with_rootfs() const;
    // Imports the sample; fails the test when that does not work.
    Manifest import_sample(const std::string& name) const;
    Manifest import_with_rootfs(const std::string& name) const;
    // Entries of the image root, hidden ones included.
    std::vector<std::string> root_entries() const;

    std::string folder_;
    Store store_{""};
};

// It failed with that code, and the message has `text` in it.
template <class T>
void expect_error(const Result<T>& result, int code, const std::string& text) {
    ASSERT_FALSE(result) << "no error: " << text;
    EXPECT_EQ(result.error().code(), code) << result.error().message();
    EXPECT_NE(result.error().message().find(text), std::string::npos) << result.error().message();
}

// Everything the image holds, opened and verified, is byte for byte what was imported.
void expect_sample(const Store& store, const std::string& name);

} // namespace thaw::image::testing
