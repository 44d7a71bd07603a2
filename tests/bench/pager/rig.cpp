// SPDX-License-Identifier: MIT
#include "rig.hpp"

#include "core/file.hpp"
#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "image/memory_reader.hpp"
#include "image/working_set.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>

namespace thaw::bench {

std::uint64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

void give_up(const std::string& what) {
    fmt::print(stderr, "pager-bench: {}\n", what);
    std::exit(1);
}

namespace {

void must_be(bool holds, const char* what) {
    if (!holds) give_up(fmt::format("{}: {}", what, errno_text(errno)));
}

Fd duplicate(int fd) {
    return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

} // namespace

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::ranges::sort(values);
    return values[values.size() / 2];
}

double percentile(std::vector<std::uint64_t>& values, double share) {
    if (values.empty()) return 0;
    std::ranges::sort(values);
    const auto at = static_cast<std::size_t>(share * static_cast<double>(values.size()));
    return static_cast<double>(values[std::min(at, values.size() - 1)]);
}

void pin(int cpu, pid_t pid) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < CPU_SETSIZE; ++i)
        if (cpu < 0 || i == cpu) CPU_SET(static_cast<unsigned>(i), &set);
    must_be(::sched_setaffinity(pid, sizeof set, &set) == 0, "pin to a CPU");
}

// ---- image -----------------------------------------------------------------------------------

std::uint64_t sum_of(const std::string& text, std::string_view key) {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; (at = text.find(key, at)) != std::string::npos; at += key.size())
        sum += std::strtoull(text.c_str() + text.find(':', at) + 1, nullptr, 10);
    return sum;
}

std::uint64_t switches(pid_t pid) {
    return sum_of(must(read_file(fmt::format("/proc/{}/status", pid)), "status"), "ctxt_switches");
}

Image::Image(
    std::string folder, std::uint64_t size, const std::function<bool(std::uint64_t)>& is_zero
)
    : folder_(std::move(folder)), source_(folder_), size_(size) {
    const auto make = [&](const char* name) {
        return must(open_file(folder_ + "/" + name, O_RDWR | O_CREAT | O_TRUNC, 0600), name);
    };
    memory_ = make("memory");
    std::vector<std::byte> chunk(1 << 20);
    for (std::uint64_t offset = 0; offset < size; offset += chunk.size()) {
        std::ranges::fill(chunk, std::byte{0});
        for (std::uint64_t at = 0; at < chunk.size(); at += kPage) {
            const std::uint64_t page = (offset + at) / kPage;
            if (is_zero(page)) continue;
            auto* words = reinterpret_cast<std::uint64_t*>(chunk.data() + at);
            for (std::size_t i = 0; i < kPage / 8; ++i)
                words[i] = first_word(page) + i * 0x9e3779b97f4a7c15;
        }
        must_be(write_all(memory_.get(), chunk).has_value(), "write the image");
    }
    const auto bytes = must(
        image::build_memory_map(memory_.get(), id, [](auto, auto) { return true; }), "map the image"
    );
    map_ = make("memory.map");
    must_be(write_all(map_.get(), bytes).has_value(), "write the map");
}

Image::~Image() {
    for (const char* name : {"/memory", "/memory.map", "/working-set"})
        ::unlink((source_ + name).c_str());
}

void Image::pack(const std::vector<std::uint32_t>& pages) {
    const image::AccessLog log{
        .id = id, .page_count = this->pages(), .settled = true, .pages = pages
    };
    const auto loaded = must(image::MemoryMap::load(map_.get(), id), "load the map");
    const Fd file = must(
        open_file(folder_ + "/working-set", O_RDWR | O_CREAT | O_TRUNC, 0600), "make a working set"
    );
    must_be(
        image::write_working_set(file.get(), log, image::MemoryReader(memory_.get()), loaded)
            .has_value(),
        "pack the working set"
    );
    must_be(::fsync(file.get()) == 0, "sync the working set");
}

Fd Image::working_set() const {
    return must(open_file(folder_ + "/working-set", O_RDONLY), "open the working set");
}

void Image::open_from(const std::string& folder) {
    folder_ = folder;
    memory_ = must(open_file(folder + "/memory", O_RDONLY), "open the image");
    map_ = must(open_file(folder + "/memory.map", O_RDONLY), "open the map");
}

// ---- guest -----------------------------------------------------------------------------------

Guest::Guest(std::uint64_t size) : size_(size) {
    uffd_.reset(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    must_be(static_cast<bool>(uffd_), "userfaultfd (run as root)");
    uffdio_api api{.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE, .ioctls = 0};
    must_be(::ioctl(uffd_.get(), UFFDIO_API, &api) == 0, "UFFDIO_API");
    void* base = ::mmap(
        nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    );
    must_be(base != MAP_FAILED, "map guest memory");
    base_ = static_cast<std::byte*>(base);
    uffdio_register reg{};
    reg.range = {.start = reinterpret_cast<std::uintptr_t>(base), .len = size};
    reg.mode = UFFDIO_REGISTER_MODE_MISSING;
    must_be(::ioctl(uffd_.get(), UFFDIO_REGISTER, &reg) == 0, "UFFDIO_REGISTER");
}

Guest::~Guest() {
    uffd_.reset();
    ::munmap(base_, size_);
}

// ---- servers ---------------------------------------------------------------------------------

Server::Server(Server&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

void Server::stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

namespace {

[[noreturn]] void serve_floor(int uffd, const std::byte* source, const std::byte* guest) {
    for (;;) {
        uffd_msg message;
        const ssize_t got = ::read(uffd, &message, sizeof message);
        if (got != static_cast<ssize_t>(sizeof message)) ::_exit(1);
        if (message.event != UFFD_EVENT_PAGEFAULT) continue;
        const std::uint64_t address = message.arg.pagefault.address & ~(kPage - 1);
        uffdio_copy copy{};
        copy.dst = address;
        copy.src = reinterpret_cast<std::uintptr_t>(source) + address -
                   reinterpret_cast<std::uintptr_t>(guest);
        copy.len = kPage;
        if (::ioctl(uffd, UFFDIO_COPY, &copy) != 0 && errno == EEXIST) {
            uffdio_range range{.start = address, .len = kPage};
            ::ioctl(uffd, UFFDIO_WAKE, &range);
        }
    }
}

} // namespace

Floor::Floor(const Image& image, const Guest& guest) {
    must_be(set_nonblocking(guest.uffd(), false).has_value(), "make the userfaultfd block");
    void* source = ::mmap(nullptr, image.size(), PROT_READ, MAP_PRIVATE, image.memory(), 0);
    must_be(source != MAP_FAILED, "map the image");
    pid_ = ::fork();
    must_be(pid_ >= 0, "fork");
    if (pid_ == 0) {
        // A guest that this child had a copy of would be faulted in by nobody.
        ::munmap(guest.base(), guest.size());
        serve_floor(guest.uffd(), static_cast<const std::byte*>(source), guest.base());
    }
    ::munmap(source, image.size());
}

Worker::Worker(const Image& image, const Guest& guest, const WorkerSetup& setup)
    : image_(image), guest_(guest), setup_(setup) {
    protocol::SessionInfo info;
    info.session_id = {9};
    info.image_id = image.id;
    info.name = "bench";
    info.unit = "thaw-firecracker@bench.service";
    info.memory_size = image.size();
    info.flags = (setup.checked ? 0 : protocol::kFlagUnchecked) |
                 (setup.replay ? protocol::kFlagPrefetch : 0);
    memory_ = std::make_unique<protocol::SessionMemory>(
        must(protocol::SessionMemory::create(info), "make a session")
    );
    const protocol::Region region{
        .base = reinterpret_cast<std::uintptr_t>(guest.base()),
        .size = guest.size(),
        .offset = 0,
        .page_size = kPage,
    };
    must_be(memory_->set_regions(std::span(&region, 1)).has_value(), "set the regions");
    if (setup.replay) working_set_ = image.working_set();
    start();
}

void Worker::start() {
    auto pair = must(make_seqpacket_pair(false), "make a socket pair");
    const std::string engine = "--engine=" + setup_.engine;
    pid_ = ::fork();
    must_be(pid_ >= 0, "fork");
    if (pid_ == 0) {
        const int channel = ::dup2(pair.second.get(), 3);
        if (channel != 3) ::_exit(1);
        ::execl(
            THAW_WORKER_PATH, THAW_WORKER_PATH, "--session", engine.c_str(),
            "--control=/nonexistent/thaw-bench", nullptr
        );
        ::_exit(1);
    }
    pair.second.reset();
    channel_ = std::move(pair.first);
    protocol::StartMessage message;
    message.session = duplicate(memory_->fd());
    message.uffd = duplicate(guest_.uffd());
    message.vmm_pidfd = must(pidfd_open(::getpid()), "open a pidfd");
    message.memory = duplicate(image_.memory());
    message.map = duplicate(image_.map());
    if (working_set_) message.working_set = duplicate(working_set_.get());
    must_be(
        protocol::send_control(channel_.get(), protocol::encode(message)).has_value(), "send Start"
    );
    wait_for(protocol::ControlType::Ready);
}

void Worker::wait_for(protocol::ControlType type) {
    for (;;) {
        pollfd readable{.fd = channel_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&readable, 1, 120'000) != 1) give_up("the worker does not answer");
        const auto message =
            must(protocol::receive_control(channel_.get()), "hear from the worker");
        if (message.type == type) return;
    }
}

void Worker::attend() const {
    const auto sent =
        protocol::send_control(channel_.get(), protocol::encode(protocol::ControlType::Attend));
    must_be(sent.has_value(), "send Attend");
}

void Worker::replace() {
    stop();
    start();
}

} // namespace thaw::bench
