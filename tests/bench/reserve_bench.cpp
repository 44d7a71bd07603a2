// SPDX-License-Identifier: MIT
// What a reserve costs: arming 64 MiB and 1 GiB, looking at it, releasing it with not a byte free.
// On loop devices, each file system freshly made. Prints JSON; times in microseconds.
//
//   thaw-bench-reserve [--rounds N] [--images DIRECTORY]
//
// --images: where the disks' images are put (default: memory, which leaves the storage out).

#include "core/text.hpp"
#include "disk_lab.hpp"
#include "reserve/arm.hpp"
#include "reserve/release.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <stdexcept>

namespace {

using namespace thaw;
using nlohmann::json;

constexpr std::uint64_t kGiB = 1024 * test::kMiB;

struct Case {
    std::string name;
    test::DiskOptions disk;
};

const std::vector<Case>& cases() {
    static const std::vector<Case> list{
        {"ext4", {.type = "ext4"}},
        {"xfs", {.type = "xfs"}},
        {"btrfs-dup", {.type = "btrfs", .mkfs = {"-m", "dup"}}},
        {"btrfs-single", {.type = "btrfs", .mkfs = {"-m", "single"}}},
        {"tmpfs", {.type = "tmpfs"}},
    };
    return list;
}

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message());
    return std::move(*result);
}

Microseconds timed(const std::function<void()>& work) {
    const auto begin = now_monotonic();
    work();
    return now_monotonic() - begin;
}

json summary(std::vector<Microseconds> times) {
    std::ranges::sort(times);
    return {{"p50", times[times.size() / 2]}, {"max", times.back()}, {"rounds", times.size()}};
}

void arm(const reserve::Volume& volume, const reserve::Plan& plan) {
    while (must(reserve::lay_next_chunk(volume, plan))) {
    }
}

json arming(Case which, std::uint64_t bytes, reserve::Backing backing, unsigned rounds) {
    which.disk.bytes = bytes + 512 * test::kMiB;
    const test::Disk disk(which.disk);
    auto volume = disk.volume();
    volume.backing = backing;
    const reserve::Plan plan{.bytes = bytes};
    std::vector<Microseconds> arms;
    std::vector<Microseconds> looks;
    for (unsigned i = 0; i < rounds; i++) {
        arms.push_back(timed([&] { arm(volume, plan); }));
        looks.push_back(timed([&] { must(reserve::measure(volume, plan)); }));
        must(reserve::release(volume));
        disk.sync();
    }
    return {{"arm", summary(arms)}, {"measure", summary(looks)}};
}

// Zero free bytes, then the release as thawctl makes it, with and without the probe.
json releasing(const Case& which, bool probe, unsigned rounds) {
    std::vector<Microseconds> times;
    json last;
    for (unsigned i = 0; i < rounds; i++) {
        auto options = which.disk;
        options.bytes = 320 * test::kMiB;
        const test::Disk disk(options);
        arm(disk.volume(), {});
        if (test::fill(disk / "fill") != ENOSPC) throw std::runtime_error("the disk is not full");
        const auto volume = disk.volume();
        reserve::ReleaseReport report;
        times.push_back(timed([&] { report = must(reserve::release(volume, {.probe = probe})); }));
        if (report.gained < reserve::kDefaultBytes - test::kMiB)
            throw std::runtime_error("the release gained too little");
        last = report.gained;
    }
    auto result = summary(times);
    result["gained"] = last;
    return result;
}

void run(unsigned rounds, const std::string& images) {
    if (const auto missing = test::enter_disk_lab(); !missing.empty())
        throw std::runtime_error(missing);
    json report;
    for (auto which : cases()) {
        which.disk.image_directory = images;
        using enum reserve::Backing;
        auto& entry = report[which.name];
        entry["release_at_zero_free"] = releasing(which, true, rounds);
        entry["release_at_zero_free_without_probe"] = releasing(which, false, rounds);
        entry["64MiB_allocated"] = arming(which, 64 * test::kMiB, Solid, rounds);
        entry["64MiB_written"] = arming(which, 64 * test::kMiB, Thin, rounds);
        entry["1GiB_allocated"] = arming(which, kGiB, Solid, rounds);
    }
    std::puts(report.dump(2).c_str());
}

} // namespace

int main(int argc, char** argv) {
    try {
        unsigned rounds = 5;
        std::string images;
        CLI::App app("Measures the reserve of thaw's disk guardian; prints JSON.");
        app.add_option("--rounds", rounds, "how often each is measured")
            ->check(CLI::Range(1, 1000));
        app.add_option("--images", images, "directory for the disks' images instead of memory");
        CLI11_PARSE(app, argc, argv);
        run(rounds, images);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "thaw-bench-reserve: %s\n", error.what());
        return 1;
    }
    return 0;
}
