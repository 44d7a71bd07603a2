// SPDX-License-Identifier: MIT

#include "fixture.hpp"

#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

namespace thaw::image::testing {

namespace {
constexpr std::uint64_t kPage = 4096;
constexpr std::string_view kState = "the state of the machine, as the VMM wrote it";
} // namespace

bool sample_page_is_zero(std::uint64_t page) {
    return page % 5 == 0 || (page >= 700 && page < 900);
}

std::string sample_memory(std::uint64_t size) {
    std::string memory(size, '\0');
    for (std::uint64_t page = 0; page < size / kPage; page++) {
        if (sample_page_is_zero(page)) continue;
        for (std::uint64_t at = 0; at < kPage; at += 8) {
            const std::uint64_t word = (page << 20) ^ at ^ 0x9e3779b97f4a7c15ULL;
            std::memcpy(&memory[page * kPage + at], &word, sizeof word);
        }
    }
    return memory;
}

std::string sample_rootfs() {
    auto rootfs = sample_memory(kRootfsSize);
    std::ranges::reverse(rootfs);
    return rootfs;
}

void StoreTest::SetUp() {
    std::string name = ::testing::TempDir() + "thaw-image-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    ASSERT_TRUE(make_directories(path("images")));
    put(path("state"), kState);
    put(path("memory"), sample_memory());
    put(path("rootfs"), sample_rootfs());
    store_ = Store(path("images"));
}

void StoreTest::TearDown() {
    EXPECT_TRUE(remove_tree(folder_));
}

std::string StoreTest::path(std::string_view name) const {
    return fmt::format("{}/{}", folder_, name);
}

std::string StoreTest::in_image(std::string_view image, std::string_view file) const {
    return fmt::format("{}/images/{}/{}", folder_, image, file);
}

void StoreTest::put(const std::string& path, std::string_view content) const {
    const auto fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_TRUE(fd) << fd.error().message();
    ASSERT_TRUE(write_all(fd->get(), content));
}

std::string StoreTest::get(const std::string& path) const {
    auto text = read_file(path, 64 << 20);
    EXPECT_TRUE(text) << text.error().message();
    return text.value_or("");
}

void StoreTest::flip(const std::string& path, std::size_t at) const {
    auto content = get(path);
    content.at(at) ^= 1;
    put(path, content);
}

Store::Source StoreTest::source() const {
    Store::Source source;
    source.state_path = path("state");
    source.memory_path = path("memory");
    source.manifest.vmm_version = "1.12.0";
    return source;
}

Store::Source StoreTest::source_with_rootfs() const {
    auto with = source();
    with.rootfs_path = path("rootfs");
    return with;
}

Manifest StoreTest::import_sample(const std::string& name) const {
    auto manifest = store_.import(name, source(), {});
    EXPECT_TRUE(manifest) << manifest.error().message();
    return manifest.value_or(Manifest{});
}

Manifest StoreTest::import_with_rootfs(const std::string& name) const {
    auto manifest = store_.import(name, source_with_rootfs(), {});
    EXPECT_TRUE(manifest) << manifest.error().message();
    return manifest.value_or(Manifest{});
}

std::vector<std::string> StoreTest::root_entries() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path("images")))
        names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
}

void expect_sample(const Store& store, const std::string& name) {
    const auto image = store.open(name);
    ASSERT_TRUE(image) << image.error().message();
    std::string memory(image->manifest.memory_size, 'x');
    ASSERT_TRUE(pread_exact(image->memory.get(), std::as_writable_bytes(std::span(memory)), 0));
    EXPECT_TRUE(memory == sample_memory(image->manifest.memory_size));
    const auto state = read_fd(image->state.get());
    ASSERT_TRUE(state);
    EXPECT_EQ(*state, kState);
    const auto verified = store.verify(name, {});
    EXPECT_TRUE(verified) << verified.error().message();
}

} // namespace thaw::image::testing
