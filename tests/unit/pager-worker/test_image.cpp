// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "harness.hpp"
#include "harness_steps.hpp"
#include "image/layers.hpp"
#include "image/memory_map.hpp"
#include "image/memory_reader.hpp"
#include "image/working_set.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <optional>

namespace thaw::test {

std::uint64_t TestImage::word(std::uint64_t page, std::size_t index) {
    if (is_zero(page)) return 0;
    std::uint64_t x = page * 0x9e3779b97f4a7c15 + index * 0xbf58476d1ce4e5b9 + 1;
    x ^= x >> 31;
    return x | 1; // never zero
}

bool TestImage::matches(const void* bytes, std::uint64_t page) {
    const auto* words = static_cast<const std::uint64_t*>(bytes);
    for (std::size_t i = 0; i < kPage / 8; ++i)
        if (words[i] != word(page, i)) return false;
    return true;
}

TestImage::TestImage(std::uint64_t size, const char* folder) : size_(size), folder_(folder) {
    const auto make = [&](const char* name) {
        return Fd(
            folder == nullptr ? ::memfd_create(name, MFD_CLOEXEC)
                              : ::open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
        );
    };
    memory_ = make("image");
    map_ = make("map");
    must_be(memory_ && map_, "make the files of an image");
    for (std::size_t i = 0; i < id_.size(); ++i)
        id_[i] = static_cast<std::uint8_t>(i + 1);
    must_be(::ftruncate(memory_.get(), static_cast<off_t>(size)) == 0, "size the image");
    void* base = ::mmap(nullptr, size, PROT_WRITE | PROT_READ, MAP_SHARED, memory_.get(), 0);
    must_be(base != MAP_FAILED, "map the image");
    auto* words = static_cast<std::uint64_t*>(base);
    for (std::uint64_t page = 0; page < pages(); ++page)
        for (std::size_t i = 0; i < kPage / 8; ++i)
            words[page * (kPage / 8) + i] = word(page, i);
    ::munmap(base, size);
    const auto bytes =
        must(image::build_memory_map(memory_.get(), id_, [](auto, auto) { return true; }));
    must_be(static_cast<bool>(write_all(map_.get(), std::span(bytes))), "write the map");
}

Fd TestImage::working_set(const std::vector<std::uint32_t>& pages, std::uint32_t page_size) const {
    const image::AccessLog log{
        .id = id_,
        .page_size = page_size,
        .page_count = this->pages(),
        .settled = true,
        .pages = pages
    };
    const auto map = must(image::MemoryMap::load(map_.get(), id_));
    Fd file(::memfd_create("working-set", MFD_CLOEXEC));
    const auto written =
        image::write_working_set(file.get(), log, image::MemoryReader(memory_.get()), map);
    must_be(static_cast<bool>(written), "pack the working set");
    return file;
}

void TestImage::lay_over(unsigned bases) {
    const auto id_of = [&](unsigned layer) {
        auto id = id_;
        id[0] = static_cast<std::uint8_t>(id[0] + layer);
        return id;
    };
    // Whatever is not found in its own file makes a wrong page.
    const std::vector<std::uint64_t> junk(kPage / 8, 0x6b6e756a6b6e756a);
    for (unsigned i = 0; i < bases; ++i)
        bases_.push_back(
            folder_ == nullptr ? Fd(::memfd_create("base", MFD_CLOEXEC))
                               : Fd(::open(folder_, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600))
        );
    std::vector<Fd*> files{&memory_};
    for (Fd& base : bases_)
        files.push_back(&base);
    std::array<std::uint64_t, kPage / 8> words{};
    for (std::uint64_t page = 0; page < pages(); ++page)
        for (unsigned layer = 0; layer < files.size(); ++layer) {
            for (std::size_t i = 0; i < words.size(); ++i)
                words[i] = layer == layer_of(page) ? word(page, i) : junk[i];
            must_be(
                ::pwrite(
                    files[layer]->get(), words.data(), kPage, static_cast<off_t>(page * kPage)
                ) == kPage,
                "write a layer"
            );
        }
    // From the bottom up, as the images would have been made.
    std::optional<image::LayerTable> below;
    for (unsigned layer = bases; layer-- > 0;) {
        image::PageBitmap present(pages());
        for (std::uint64_t page = 0; page < pages(); ++page)
            if (layer_of(page) == layer) present.set(page);
        const auto bytes = must(
            image::build_layers(id_of(layer), id_of(layer + 1), below ? &*below : nullptr, present)
        );
        layers_.reset(::memfd_create("layers", MFD_CLOEXEC));
        must_be(static_cast<bool>(write_all(layers_.get(), std::span(bytes))), "write the table");
        below = must(image::LayerTable::load(layers_.get(), id_of(layer)));
    }
}

void TestImage::flip(std::uint64_t page) const {
    std::byte byte{};
    const int file = file_of(page);
    const auto at = static_cast<off_t>(page * kPage + 777);
    must_be(::pread(file, &byte, 1, at) == 1, "read the image");
    byte ^= std::byte{0x10};
    must_be(::pwrite(file, &byte, 1, at) == 1, "write the image");
}

void TestImage::cool() const {
    std::vector<int> files{memory_.get(), map_.get()};
    for (const Fd& base : bases_)
        files.push_back(base.get());
    for (const int fd : files) {
        must_be(::fsync(fd) == 0, "sync the image");
        must_be(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, "drop the image's pages");
    }
}

void TestImage::truncate(std::uint64_t size) const {
    must_be(::ftruncate(memory_.get(), static_cast<off_t>(size)) == 0, "truncate the image");
}

void TestImage::restore_end() const {
    for (std::uint64_t page = identify(memory_.get()).value().size / kPage; page < pages();
         ++page) {
        std::array<std::uint64_t, kPage / 8> words;
        for (std::size_t i = 0; i < words.size(); ++i)
            words[i] = word(page, i);
        must_be(
            ::pwrite(memory_.get(), words.data(), kPage, static_cast<off_t>(page * kPage)) == kPage,
            "write the image"
        );
    }
}

} // namespace thaw::test
