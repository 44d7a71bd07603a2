// SPDX-License-Identifier: MIT
#include "fixture.hpp"

#include "core/file.hpp"
#include "image/range_copier.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::delta::test {

namespace {

void fill_random(std::span<std::byte> bytes, std::mt19937_64& random) {
    for (auto& byte : bytes)
        byte = static_cast<std::byte>(random() % 255 + 1); // a zero block would be another kind
}

} // namespace

Model::Model(const ModelOptions& given, std::mt19937_64& random)
    : options(given), base(given.base_size), disk(given.size),
      blocks(::memfd_create("blocks", MFD_CLOEXEC)) {
    fill_random(base, random);
    std::ranges::copy(std::span(base).first(std::min(base.size(), disk.size())), disk.begin());
    const std::uint64_t block = given.block_size;
    const protocol::DiskGeometry geometry{.size = given.size, .block_size = given.block_size};
    std::uint64_t place = random() % 7;
    const auto chance = [&](double share) {
        return std::uniform_real_distribution<>(0, 1)(random) < share;
    };
    for (std::uint64_t at = 0; at < geometry.blocks();) {
        const std::uint64_t count =
            std::min<std::uint64_t>(1 + random() % given.run, geometry.blocks() - at);
        if (chance(given.dirty)) {
            const std::uint64_t end = std::min((at + count) * block, given.size);
            const auto part = std::span(disk).subspan(at * block, end - at * block);
            SourceRun run{.first_block = at, .count = static_cast<std::uint32_t>(count)};
            if (chance(given.zero)) {
                std::ranges::fill(part, std::byte{0});
            } else {
                fill_random(part, random);
                run.fd = blocks.get();
                run.offset = place * block;
                EXPECT_TRUE(image::write_at(blocks.get(), part, run.offset));
                place += count + random() % 3;
            }
            sources.push_back(run);
        }
        at += count;
    }
}

Delta Model::description() const {
    Delta delta;
    delta.kind = options.kind;
    delta.geometry = {.size = options.size, .block_size = options.block_size};
    const Fd file(::memfd_create("base", MFD_CLOEXEC));
    EXPECT_TRUE(write_all(file.get(), base));
    delta.base = reference_of(file.get(), nullptr).value();
    delta.id = {1, 2, 3, 4};
    delta.created = 77;
    return delta;
}

Bytes contents(const std::string& path) {
    const auto text = read_file(path, std::size_t{1} << 30);
    EXPECT_TRUE(text) << path;
    const auto bytes = std::as_bytes(std::span(*text));
    return {bytes.begin(), bytes.end()};
}

std::string write_file(const std::string& path, std::span<const std::byte> bytes) {
    const auto fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    EXPECT_TRUE(fd && write_all(fd->get(), bytes));
    return path;
}

Result<Delta> save(const Model& model, const std::string& path) {
    THAW_TRY(OutputFile file, OutputFile::create(path, Existing::Refuse));
    THAW_TRY(Delta delta, write_delta(file.fd(), model.description(), model.sources, nullptr));
    THAW_CHECK(file.publish());
    return delta;
}

Fd open_read(const std::string& path) {
    return open_file(path, O_RDONLY).value();
}

} // namespace thaw::delta::test
