// SPDX-License-Identifier: MIT
#pragma once

// A fresh folder for one test; removed with everything in it when it goes out of scope.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

namespace thaw::test {

class TemporaryDirectory {
public:
    TemporaryDirectory() {
        // Short: sockets are made in it, whose paths may have 107 bytes.
        const char* parent = std::getenv("TMPDIR");
        std::string name = std::string(parent != nullptr ? parent : "/tmp") + "/thaw-test-XXXXXX";
        if (mkdtemp(name.data())) path_ = name;
        EXPECT_FALSE(path_.empty()) << "mkdtemp";
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory() {
        std::error_code ignored;
        if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    }

    const std::string& path() const { return path_; }
    std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

    // Writes a file below the folder, with the folders that it needs; returns its path.
    std::string write(std::string_view name, std::string_view content) const {
        const std::string path = *this / name;
        std::filesystem::create_directories(std::filesystem::path(path).parent_path());
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }
    // How many things are in the folder itself, hidden files too.
    std::size_t entries() const {
        std::size_t count = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_))
            ++count;
        return count;
    }

private:
    std::string path_;
};

} // namespace thaw::test
