// SPDX-License-Identifier: MIT
#include "harness.hpp"

#include "core/file.hpp"
#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "image/layers.hpp"
#include "image/memory_map.hpp"
#include "image/memory_reader.hpp"
#include "image/working_set.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

namespace thaw::test {

using std::chrono::milliseconds;

namespace {

template <class T>
T must(Result<T> result) {
    if (!result) {
        ADD_FAILURE() << result.error().message();
        ::abort();
    }
    return std::move(*result);
}

Fd must_dup(int fd) {
    return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

void must_be(bool holds, const char* what) {
    if (holds) return;
    ::perror(what);
    ::abort();
}

} // namespace

bool eventually(const std::function<bool()>& condition, milliseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
}

// ---- image -----------------------------------------------------------------------------------

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

// ---- guest -----------------------------------------------------------------------------------

Guest::Guest(const Layout& layout) : layout_(layout) {
    uffd_.reset(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    must_be(static_cast<bool>(uffd_), "userfaultfd (these tests need root)");
    uffdio_api api{.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE, .ioctls = 0};
    must_be(::ioctl(uffd_.get(), UFFDIO_API, &api) == 0, "UFFDIO_API");
    const std::uint64_t split = layout.split == 0 ? layout.size : layout.split;
    for (std::uint64_t offset = 0; offset < layout.size;
         offset = offset == 0 ? split : layout.size) {
        const std::uint64_t size = offset == 0 ? split : layout.size - split;
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
                          (layout.huge ? MAP_HUGETLB | 21 << MAP_HUGE_SHIFT : 0);
        void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        must_be(base != MAP_FAILED, "map guest memory");
        uffdio_register reg{};
        reg.range = {.start = reinterpret_cast<std::uintptr_t>(base), .len = size};
        reg.mode = UFFDIO_REGISTER_MODE_MISSING;
        must_be(::ioctl(uffd_.get(), UFFDIO_REGISTER, &reg) == 0, "UFFDIO_REGISTER");
        regions_.push_back({
            .base = reinterpret_cast<std::uintptr_t>(base),
            .size = size,
            .offset = offset,
            .page_size = layout.page_size,
        });
    }
}

Guest::~Guest() {
    uffd_.reset();
    for (const auto& region : regions_)
        ::munmap(reinterpret_cast<void*>(region.base), region.size);
}

void* Guest::address(std::uint64_t page) const {
    for (const auto& region : regions_) {
        const std::uint64_t offset = page * kPage;
        if (offset >= region.offset && offset - region.offset < region.size)
            return reinterpret_cast<void*>(region.base + offset - region.offset);
    }
    return nullptr;
}

volatile std::uint64_t* Guest::at(std::uint64_t page) const {
    return static_cast<volatile std::uint64_t*>(address(page));
}

void Guest::remove(std::uint64_t first_page, std::uint64_t count) const {
    must_be(::madvise(address(first_page), count * kPage, MADV_DONTNEED) == 0, "MADV_DONTNEED");
}

bool Guest::is_zero(std::uint64_t page) const {
    return image::is_zero_page(static_cast<const std::byte*>(address(page)));
}

void Guest::unregister() const {
    for (const auto& region : regions_) {
        uffdio_range range{.start = region.base, .len = region.size};
        must_be(::ioctl(uffd_.get(), UFFDIO_UNREGISTER, &range) == 0, "UFFDIO_UNREGISTER");
    }
}

// ---- worker ----------------------------------------------------------------------------------

WorkerProcess::WorkerProcess(pid_t pid, Fd pidfd, Fd channel)
    : pid_(pid), pidfd_(std::move(pidfd)), channel_(std::move(channel)) {}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)),
      channel_(std::move(other.channel_)), status_(other.status_) {}

WorkerProcess& WorkerProcess::operator=(WorkerProcess&& other) noexcept {
    if (this == &other) return *this;
    if (pid_ > 0) kill();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
    channel_ = std::move(other.channel_);
    status_ = other.status_;
    return *this;
}

WorkerProcess::~WorkerProcess() {
    if (pid_ > 0) kill();
}

void WorkerProcess::signal(int number) const {
    static_cast<void>(pidfd_send_signal(pidfd_.get(), number));
}

void WorkerProcess::kill() {
    if (!status_) {
        signal(SIGKILL);
        wait();
    }
    pid_ = -1;
}

std::optional<int> WorkerProcess::wait(milliseconds limit) {
    if (status_) return status_;
    pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, static_cast<int>(limit.count())) != 1) return std::nullopt;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return status_;
}

Result<protocol::ControlMessage> WorkerProcess::receive(milliseconds limit) const {
    pollfd readable{.fd = channel_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, static_cast<int>(limit.count())) != 1)
        return fail(ETIMEDOUT, "no message");
    return protocol::receive_control(channel_.get());
}

Result<protocol::ControlMessage>
WorkerProcess::receive(protocol::ControlType type, milliseconds limit) const {
    const auto end = std::chrono::steady_clock::now() + limit;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
        auto message = receive(std::max(left, milliseconds(0)));
        if (!message || message->type == type) return message;
    }
}

// ---- broker ----------------------------------------------------------------------------------

namespace {

protocol::SessionMemory
make_session(const TestImage& image, const Guest& guest, const BrokerOptions& options) {
    protocol::SessionInfo info;
    info.session_id = {9, 8, 7};
    info.image_id = image.id();
    info.name = "test-vm";
    info.unit = "thaw-firecracker@test.service";
    info.image_name = "test-image";
    info.memory_size = image.size();
    info.page_size = guest.regions().front().page_size;
    info.policy = options.policy;
    info.flags = options.flags;
    auto memory = must(protocol::SessionMemory::create(info));
    must_be(static_cast<bool>(memory.set_regions(guest.regions())), "set the regions");
    return memory;
}

pid_t spawn_worker(int channel, const BrokerOptions& options) {
    const std::string engine = "--engine=" + options.engine;
    const std::string control = "--control=" + options.control_path;
    const char* program = THAW_WORKER_PATH;
    const std::string pressure = "--pressure=" + options.pressure_directory;
    const char* argv[] = {program,         "--session",      engine.c_str(),
                          control.c_str(), pressure.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, channel, 3);
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, program, &actions, nullptr, const_cast<char* const*>(argv), environ);
    posix_spawn_file_actions_destroy(&actions);
    errno = error;
    must_be(error == 0, "spawn the worker");
    return pid;
}

} // namespace

Broker::Broker(const TestImage& image, const Guest& guest, BrokerOptions options)
    : image_(image), guest_(guest), options_(std::move(options)),
      memory_(make_session(image_, guest_, options_)) {
    if (options_.track) memory_.request_tracking(true);
    if (!options_.vmm_pidfd) options_.vmm_pidfd = must(pidfd_open(::getpid()));
}

WorkerProcess Broker::start() {
    auto pair = must(make_seqpacket_pair(false));
    const pid_t pid = spawn_worker(pair.second.get(), options_);
    pair.second.reset();
    WorkerProcess worker(pid, must(pidfd_open(pid)), std::move(pair.first));
    protocol::StartMessage message;
    message.session = must_dup(memory_.fd());
    message.uffd = must_dup(guest_.uffd());
    message.vmm_pidfd = must_dup(options_.vmm_pidfd.get());
    message.memory = must_dup(options_.memory ? options_.memory.get() : image_.memory());
    if (options_.with_map) message.map = must_dup(options_.map ? options_.map.get() : image_.map());
    if (options_.working_set) message.working_set = must_dup(options_.working_set.get());
    if (image_.layers() >= 0)
        message.layers = must_dup(options_.layers ? options_.layers.get() : image_.layers());
    for (std::size_t i = 0; i + options_.drop_bases < image_.bases().size(); ++i)
        message.bases.push_back(must_dup(image_.bases()[i].get()));
    message.spares = must(protocol::make_spare_sockets());
    must_be(
        static_cast<bool>(protocol::send_control(worker.channel(), protocol::encode(message))),
        "send Start"
    );
    return worker;
}

bool Broker::is_ready(const WorkerProcess& worker) const {
    const auto message = worker.receive();
    if (!message) ADD_FAILURE() << message.error().message();
    return message && message->type == protocol::ControlType::Ready;
}

WorkerProcess Broker::start_ready() {
    WorkerProcess worker = start();
    EXPECT_TRUE(is_ready(worker));
    return worker;
}

void Broker::attend(const WorkerProcess& worker) {
    const auto sent =
        protocol::send_control(worker.channel(), protocol::encode(protocol::ControlType::Attend));
    must_be(static_cast<bool>(sent), "send Attend");
}

HangGuard::HangGuard(unsigned seconds) {
    ::signal(SIGALRM, [](int) {
        constexpr char kText[] = "test hangs: a fault was not answered\n";
        static_cast<void>(!::write(STDERR_FILENO, kText, sizeof kText - 1));
        ::_exit(99);
    });
    ::alarm(seconds);
}

HangGuard::~HangGuard() {
    ::alarm(0);
}

} // namespace thaw::test
