// SPDX-License-Identifier: MIT
// The whole image in: Complete against a plain loop of 1 MiB UFFDIO_COPYs from a mapping.

#include "measures.hpp"
#include "rig.hpp"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace thaw::bench {

namespace {

using nlohmann::json;

// In a child, as the worker is: copying into another address space is what both do.
double plain_loop(const Image& image) {
    const Guest guest(image.size());
    void* source = ::mmap(nullptr, image.size(), PROT_READ, MAP_PRIVATE, image.memory(), 0);
    if (source == MAP_FAILED) give_up("map the image");
    const std::uint64_t before = now_ns();
    const pid_t child = ::fork();
    if (child == 0) {
        constexpr std::uint64_t kStep = 1 << 20;
        for (std::uint64_t at = 0; at < image.size(); at += kStep) {
            uffdio_copy copy{};
            copy.dst = reinterpret_cast<std::uintptr_t>(guest.base()) + at;
            copy.src = reinterpret_cast<std::uintptr_t>(source) + at;
            copy.len = kStep;
            if (::ioctl(guest.uffd(), UFFDIO_COPY, &copy) != 0) ::_exit(1);
        }
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    const auto took = static_cast<double>(now_ns() - before);
    if (status != 0) give_up("the plain loop failed");
    ::munmap(source, image.size());
    return took;
}

double complete(const Image& image, const std::string& engine, bool checked) {
    const Guest guest(image.size());
    Worker worker(image, guest, {.engine = engine, .checked = checked});
    const std::uint64_t before = now_ns();
    worker.memory().request_populate(true);
    worker.attend();
    worker.wait_for(protocol::ControlType::Complete);
    const auto took = static_cast<double>(now_ns() - before);
    for (std::uint64_t page = 0; page < image.pages(); page += 7919)
        if (const auto word = *guest.at(page); word != 0 && word != Image::first_word(page))
            give_up("a page holds the wrong bytes");
    return took;
}

} // namespace

json measure_populate(const Options& options) {
    const std::uint64_t size = options.hot_mib << 20;
    struct Shape {
        std::string name;
        bool (*is_zero)(std::uint64_t);
    };
    const std::vector<Shape> shapes{
        {"populate_ratio", [](std::uint64_t) { return false; }},
        // Three of four MiB; three of four pages.
        {"populate_sparse_ratio", [](std::uint64_t page) { return page / 256 % 4 != 0; }},
        {"populate_sparse_runs_of_3_ratio", [](std::uint64_t page) { return page % 4 != 0; }},
    };
    json report;
    for (const Shape& shape : shapes) {
        const Image image(options.folder, size, shape.is_zero);
        for (const std::string engine : {"io_uring", "epoll"}) {
            std::vector<double> unchecked;
            std::vector<double> checked;
            for (unsigned run = 0; run < options.runs; ++run) {
                const double plain = plain_loop(image);
                unchecked.push_back(plain / complete(image, engine, false));
                checked.push_back(plain / complete(image, engine, true));
            }
            report[shape.name][engine] = median(unchecked);
            report[shape.name + "_checked"][engine] = median(checked);
        }
    }
    return report;
}

} // namespace thaw::bench
