// SPDX-License-Identifier: MIT
#pragma once

// Files of one disk that loses its power: what was not synced is there or not, sector by sector,
// as a random number says.

#include "overlay/stable_file.hpp"

#include <random>
#include <set>
#include <vector>

namespace thaw::rootfs::test {

// Counts down over all files of a disk; at 0 the power is gone and every call fails.
struct Power {
    std::uint64_t left = ~std::uint64_t{0};
    bool on() {
        if (left == 0) return false;
        --left;
        return true;
    }
};

class SimulatedFile final : public StableFile {
public:
    static constexpr std::uint64_t kSector = 512;
    using Content = std::vector<std::byte>;

    // `content` is what lies on the disk. `power` must outlive the file.
    SimulatedFile(Content content, Power& power)
        : power_(power), stable_(std::move(content)), now_(stable_) {}

    Result<> read(std::uint64_t offset, std::span<std::byte> out) override {
        if (power_.left == 0) return lost();
        if (offset + out.size() > now_.size()) return fail(EIO, "truncated");
        std::copy_n(at(now_, offset), out.size(), out.begin());
        return {};
    }
    Result<> write(std::uint64_t offset, std::span<const std::byte> data) override {
        const bool on = power_.on();
        // The write that the power went in the middle of may have got anywhere as well.
        if (now_.size() < offset + data.size()) now_.resize(offset + data.size());
        std::ranges::copy(data, at(now_, offset));
        for (auto s = offset / kSector; s <= (offset + data.size() - 1) / kSector; ++s)
            unsynced_.insert(s);
        return on ? Result<>{} : lost();
    }
    Result<> sync() override {
        if (!power_.on()) return lost();
        stable_.resize(now_.size());
        for (const auto sector : unsynced_)
            keep(stable_, sector);
        unsynced_.clear();
        return {};
    }
    Result<> reserve(std::uint64_t length) override {
        if (!power_.on()) return lost();
        if (now_.size() < length) now_.resize(length);
        return {};
    }
    void punch(std::uint64_t offset, std::uint64_t length) override {
        if (!power_.on()) return;
        std::fill_n(at(now_, offset), length, std::byte{0});
        for (auto s = offset / kSector; s < (offset + length) / kSector; ++s)
            unsynced_.insert(s);
    }
    Result<std::uint64_t> size() override { return now_.size(); }

    // What is found when the power is back.
    Content after_crash(std::mt19937_64& random) const {
        Content content = stable_;
        if (random() % 2 == 0) content.resize(now_.size());
        for (const auto sector : unsynced_)
            if (random() % 2 == 0) keep(content, sector);
        return content;
    }

private:
    void keep(Content& content, std::uint64_t sector) const {
        const auto offset = sector * kSector;
        if (offset >= content.size()) return;
        const auto length = std::min<std::uint64_t>(kSector, content.size() - offset);
        std::copy_n(
            now_.begin() + static_cast<std::ptrdiff_t>(offset), length, at(content, offset)
        );
    }
    static Content::iterator at(Content& content, std::uint64_t offset) {
        return content.begin() + static_cast<std::ptrdiff_t>(offset);
    }
    static std::unexpected<Error> lost() { return fail(EIO, "the power is gone"); }

    Power& power_;
    Content stable_;
    Content now_;
    std::set<std::uint64_t> unsynced_; // sectors
};

// For an owner that goes with the power; `file` stays.
class Handle final : public StableFile {
public:
    explicit Handle(SimulatedFile& file) : file_(file) {}
    Result<> read(std::uint64_t offset, std::span<std::byte> out) override {
        return file_.read(offset, out);
    }
    Result<> write(std::uint64_t offset, std::span<const std::byte> data) override {
        return file_.write(offset, data);
    }
    Result<> sync() override { return file_.sync(); }
    Result<> reserve(std::uint64_t length) override { return file_.reserve(length); }
    void punch(std::uint64_t offset, std::uint64_t length) override { file_.punch(offset, length); }
    Result<std::uint64_t> size() override { return file_.size(); }

private:
    SimulatedFile& file_;
};

} // namespace thaw::rootfs::test
