// SPDX-License-Identifier: MIT
// Runs a target over the files of the folders given: each whole, cut short, and with a byte
// changed.
#include "target.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace {

void run(const std::string& input) {
    // A copy of exactly this size, so that AddressSanitizer sees a read beyond the end.
    const std::string exact(input.begin(), input.end());
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(exact.data()), exact.size());
}

void run_file(const std::filesystem::path& path) {
    constexpr std::size_t kVariants = 200; // enough for every byte of a small input
    std::ifstream file(path, std::ios::binary);
    const std::string input(std::istreambuf_iterator<char>(file), {});
    run(input);
    const std::size_t step = input.size() / kVariants + 1;
    for (std::size_t i = 0; i < input.size(); i += step) {
        run(input.substr(0, i));
        std::string changed = input;
        changed[i] = static_cast<char>(changed[i] ^ 0x41);
        run(changed);
    }
}

} // namespace

int main(int argc, char** argv) {
    int files = 0;
    for (int i = 1; i < argc; ++i) {
        std::error_code error;
        for (const auto& entry : std::filesystem::directory_iterator(argv[i], error)) {
            run_file(entry.path());
            ++files;
        }
    }
    std::printf("%d files\n", files);
    return files > 0 ? 0 : 1;
}
