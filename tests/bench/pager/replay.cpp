// SPDX-License-Identifier: MIT
// A guest walks its working set: replayed, on demand, and from a mapping of the file.

#include "measures.hpp"
#include "rig.hpp"
#include "slow_disk.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <random>

namespace thaw::bench {

namespace {

using nlohmann::json;

// Runs of two or three pages all over the image, in the order a guest touches them.
std::vector<std::uint32_t> scattered_set(std::uint64_t image_pages, std::uint64_t set_pages) {
    std::mt19937_64 random(11);
    const std::uint64_t runs = set_pages * 2 / 5;
    const std::uint64_t stride = image_pages / runs;
    std::vector<std::uint32_t> starts;
    for (std::uint64_t i = 0; i < runs; ++i)
        starts.push_back(static_cast<std::uint32_t>(i * stride + random() % (stride - 3)));
    std::shuffle(starts.begin(), starts.end(), random);
    std::vector<std::uint32_t> pages;
    for (const std::uint32_t start : starts)
        for (std::uint32_t i = 0; i < 2 + start % 2; ++i)
            pages.push_back(start + i);
    return pages;
}

double walk(volatile std::byte* base, const std::vector<std::uint32_t>& pages, bool write) {
    const std::uint64_t before = now_ns();
    for (const std::uint32_t page : pages) {
        auto* word = reinterpret_cast<volatile std::uint64_t*>(base + page * kPage);
        if (*word != Image::first_word(page)) give_up("a page holds the wrong bytes");
        if (write) *word = Image::first_word(page);
    }
    return static_cast<double>(now_ns() - before);
}

double walk_guest(
    const Image& image, const std::string& engine, const std::vector<std::uint32_t>& pages,
    bool replay, bool write
) {
    const Guest guest(image.size());
    const std::uint64_t before = now_ns();
    Worker worker(image, guest, {.engine = engine, .replay = replay});
    const auto started = static_cast<double>(now_ns() - before);
    // Replay may have begun while Ready was on its way: that time is the walk's.
    return walk(guest.base(), pages, write) + (replay ? started : 0);
}

double walk_mapping(const Image& image, const std::vector<std::uint32_t>& pages, bool write) {
    void* base =
        ::mmap(nullptr, image.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, image.memory(), 0);
    if (base == MAP_FAILED) give_up("map the image");
    const double took = walk(static_cast<std::byte*>(base), pages, write);
    ::munmap(base, image.size());
    return took;
}

void warm(const Image& image, const std::vector<std::uint32_t>& pages) {
    static_cast<void>(walk_mapping(image, pages, false));
    const Fd set = image.working_set();
    std::vector<std::byte> buffer(1 << 20);
    for (off_t at = 0; ::pread(set.get(), buffer.data(), buffer.size(), at) > 0;
         at += static_cast<off_t>(buffer.size()))
        continue;
}

struct Walks {
    std::vector<double> replay_speedup;
    std::vector<double> file_read;
    std::vector<double> file_write;
};

Walks measure(
    const Options& options, Image& image, const std::string& engine,
    const std::vector<std::uint32_t>& pages, const std::function<void()>& prepare, bool writes
) {
    Walks walks;
    for (unsigned run = 0; run < options.runs; ++run) {
        prepare();
        const double demand = walk_guest(image, engine, pages, false, false);
        prepare();
        const double replayed = walk_guest(image, engine, pages, true, false);
        prepare();
        const double mapped = walk_mapping(image, pages, false);
        walks.replay_speedup.push_back(demand / replayed);
        walks.file_read.push_back(mapped / replayed);
        if (!writes) continue;
        const double written = walk_guest(image, engine, pages, true, true);
        walks.file_write.push_back(walk_mapping(image, pages, true) / written);
    }
    return walks;
}

} // namespace

json measure_replay(const Options& options) {
    const std::uint64_t size = options.image_mib << 20;
    const auto pages = scattered_set(size / kPage, options.set_mib * 256);
    json report;
    Image image(options.folder, size, [](auto) { return false; });
    image.pack(pages);
    for (const std::string engine : {"io_uring", "epoll"}) {
        warm(image, pages);
        const Walks hot = measure(options, image, engine, pages, [] {}, true);
        report["replay_speedup_hot"][engine] = median(hot.replay_speedup);
        report["file_backend_ratio_hot_read"][engine] = median(hot.file_read);
        report["file_backend_ratio_hot_write"][engine] = median(hot.file_write);
    }
    auto disk = SlowDisk::create(options.folder, image.folder(), size + (options.set_mib << 21));
    if (!disk) {
        report["cold_skipped"] = disk.error().message();
        return report;
    }
    image.open_from((*disk)->folder());
    const auto forget = [&] { (*disk)->forget(); };
    report["slow_disk"] = (*disk)->figures();
    for (const std::string engine : {"io_uring", "epoll"}) {
        const Walks cold = measure(options, image, engine, pages, forget, false);
        report["replay_speedup_cold"][engine] = median(cold.replay_speedup);
        report["file_backend_ratio_cold"][engine] = median(cold.file_read);
    }
    image.open_from(options.folder); // before the mount goes
    return report;
}

} // namespace thaw::bench
