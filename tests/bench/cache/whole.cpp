// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "disk_lab.hpp"
#include "fakes/run_until.hpp"
#include "fakes/socket_activated.hpp"
#include "fakes/web_lab.hpp"
#include "fetch/fetch_client.hpp"
#include "measures.hpp"
#include "pager/rig.hpp"
#include "protocol/chunk_map.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

namespace thaw::bench {

namespace {

using protocol::kChunkSize;

constexpr std::size_t kAtOnce = 8; // chunks

// How often threads of a process are seen where the kernel holds writers back.
class ThrottleSamples {
public:
    explicit ThrottleSamples(std::function<pid_t()> pid)
        : thread_([this, pid = std::move(pid)] {
              while (!stop_) {
                  look(pid());
                  std::this_thread::sleep_for(std::chrono::milliseconds(5));
              }
          }) {}
    ThrottleSamples(const ThrottleSamples&) = delete;
    ThrottleSamples& operator=(const ThrottleSamples&) = delete;
    ~ThrottleSamples() {
        stop_ = true;
        thread_.join();
    }
    std::uint64_t seen() const { return seen_; }
    std::uint64_t looks() const { return looks_; }

private:
    void look(pid_t pid) {
        if (pid <= 0) return;
        ++looks_;
        std::error_code ignored;
        const std::filesystem::path tasks = fmt::format("/proc/{}/task", pid);
        for (const auto& task : std::filesystem::directory_iterator(tasks, ignored)) {
            const auto where = read_file((task.path() / "wchan").string());
            if (where && where->find("balance_dirty_pages") != std::string::npos) ++seen_;
        }
    }

    std::atomic<bool> stop_ = false;
    std::atomic<std::uint64_t> seen_ = 0;
    std::atomic<std::uint64_t> looks_ = 0;
    std::thread thread_;
};

// A web server with the image, and the fetcher.
struct Source {
    explicit Source(const CacheOptions& options) : size(options.image_mib << 20) {
        const std::string config = options.folder + "/fetchd.conf";
        must(write_file_atomic(config, "[Fetch]\nTimeoutSec=10min\n"), "configure the fetcher");
        must(make_directories(options.folder + "/credentials"), "make a folder");
        web = must(fakes::WebLab::create(options.folder + "/web", FAULT_PROXY), "start nginx");
        std::ofstream file(web->www("/memory"), std::ios::binary);
        std::vector<std::uint64_t> block((1 << 20) / sizeof(std::uint64_t));
        for (std::uint64_t at = 0; at < size; at += 1 << 20) {
            for (std::size_t i = 0; i < block.size(); ++i)
                block[i] = (at + i) * 0x9e3779b97f4a7c15;
            file.write(reinterpret_cast<const char*>(block.data()), 1 << 20);
        }
        service = must(
            fakes::SocketActivated::create(
                loop, options.folder + "/fetch.sock", SOCK_SEQPACKET,
                {
                    .program = THAW_FETCHD_PATH,
                    .descriptors = {},
                    .environment =
                        {{"THAW_FETCHD_CONFIG", config},
                         {"CREDENTIALS_DIRECTORY", options.folder + "/credentials"}},
                }
            ),
            "start the fetcher"
        );
        client = must(fetch::FetchClient::create(loop, service->path()), "make a client");
    }

    std::uint64_t size;
    EventLoop loop = must(EventLoop::create(), "make an event loop");
    std::unique_ptr<fakes::WebLab> web;
    std::unique_ptr<fakes::SocketActivated> service;
    std::unique_ptr<fetch::FetchClient> client;
};

struct Run {
    double seconds = 0;
    std::vector<std::uint64_t> chunks_ns;
    std::uint64_t throttled = 0;
    std::uint64_t looks = 0;
};

// All chunks into `target`, a few at a time.
Run fetch_all(Source& source, int target) {
    Run run;
    const std::string url = source.web->url("/memory");
    std::optional<fetch::FetchEnd> found;
    must(source.client->probe(url, [&](fetch::FetchEnd end) { found = std::move(end); }), "probe");
    if (!fakes::run_until(source.loop, [&] { return found.has_value(); })) give_up("no answer");
    const auto identity = found->identity;
    if (identity.length != source.size) give_up("the web server has another image");
    const ThrottleSamples samples([&] { return source.service->pid(); });
    const std::uint64_t count = source.size / kChunkSize;
    std::uint64_t next = 0;
    std::uint64_t done = 0;
    std::function<void()> begin = [&] {
        const std::uint64_t offset = next++ * kChunkSize;
        const std::uint64_t begun = now_ns();
        must(
            source.client->fetch(
                {.url = url,
                 .identity = identity,
                 .offset = offset,
                 .length = kChunkSize,
                 .target = target,
                 .target_offset = offset},
                [](std::uint64_t) {},
                [&, begun](const fetch::FetchEnd& end) {
                    if (!end.result) give_up("fetch: " + end.result.error().message());
                    run.chunks_ns.push_back(now_ns() - begun);
                    ++done;
                    if (next < count) begin();
                }
            ),
            "fetch"
        );
    };
    const std::uint64_t start = now_ns();
    while (next < std::min<std::uint64_t>(kAtOnce, count))
        begin();
    if (!fakes::run_until(source.loop, [&] { return done == count; }, 900 * kUsecPerSec))
        give_up("the image did not come");
    run.seconds = static_cast<double>(now_ns() - start) / 1e9;
    run.throttled = samples.seen();
    run.looks = samples.looks();
    return run;
}

Run into_memory(Source& source) {
    const Fd memory(::memfd_create("image", MFD_CLOEXEC));
    if (::ftruncate(memory.get(), static_cast<off_t>(source.size)) != 0) give_up("size a memfd");
    return fetch_all(source, memory.get());
}

Run into_file(Source& source, const test::Disk& disk, int flags) {
    const std::string path = disk / "image";
    Fd file = must(open_file(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0600), "make a file");
    if (::ftruncate(file.get(), static_cast<off_t>(source.size)) != 0) give_up("size a file");
    Run run = fetch_all(source, file.get());
    file.reset();
    ::unlink(path.c_str());
    disk.sync();
    return run;
}

// Of this device alone. A loop device keeps it when its disk goes, so that the next one on it has
// to be told as well: 0 is no limit.
void limit_dirty(const test::Disk& disk, std::uint64_t bytes) {
    struct stat status{};
    if (::stat(disk.device().c_str(), &status) != 0) give_up("stat the device");
    const std::string bdi =
        fmt::format("/sys/class/bdi/{}:{}/", major(status.st_rdev), minor(status.st_rdev));
    constexpr std::uint64_t kAll = 100; // percent of what the host allows
    const auto limit = bytes > 0 ? std::pair{"max_bytes", bytes} : std::pair{"max_ratio", kAll};
    for (const auto& [name, value] :
         {std::pair{"strict_limit", std::uint64_t{bytes > 0 ? 1U : 0U}}, limit}) {
        std::ofstream file(bdi + name);
        file << value << std::flush;
        if (!file) give_up(fmt::format("{}{} cannot be set", bdi, name));
    }
}

nlohmann::json summary(std::vector<Run> runs) {
    std::vector<double> seconds;
    std::vector<std::uint64_t> chunks;
    std::uint64_t throttled = 0;
    std::uint64_t looks = 0;
    for (auto& run : runs) {
        seconds.push_back(run.seconds);
        chunks.insert(chunks.end(), run.chunks_ns.begin(), run.chunks_ns.end());
        throttled += run.throttled;
        looks += run.looks;
    }
    return {
        {"seconds", median(seconds)},
        {"chunk_ms_p50", percentile(chunks, 0.5) / 1e6},
        {"chunk_ms_p99", percentile(chunks, 0.99) / 1e6},
        {"balance_dirty_pages_samples", throttled},
        {"samples", looks},
    };
}

nlohmann::json measure_on(Source& source, const CacheOptions& options, bool throttled) {
    const test::Disk disk({
        .type = "ext4",
        .mkfs = {"-O", "^has_journal"},
        .mount_options = {},
        .bytes = source.size + (std::uint64_t{256} << 20),
        .image_directory = options.folder,
    });
    limit_dirty(disk, throttled ? options.throttle_kib << 10 : 0);
    std::vector<Run> memory;
    std::vector<Run> file;
    std::vector<Run> direct;
    std::vector<double> ratio;
    for (unsigned i = 0; i < options.runs; ++i) {
        file.push_back(into_file(source, disk, 0));
        memory.push_back(into_memory(source));
        direct.push_back(into_file(source, disk, O_DIRECT));
        ratio.push_back(file.back().seconds / memory.back().seconds);
    }
    limit_dirty(disk, 0); // as it was
    return {
        {"memfd", summary(std::move(memory))},
        {"file", summary(std::move(file))},
        {"direct", summary(std::move(direct))},
        {"file_to_memfd_ratio", median(ratio)},
    };
}

} // namespace

nlohmann::json measure_whole(const CacheOptions& options) {
    if (!fakes::WebLab::available()) give_up("nginx, python3 and openssl are needed");
    if (const auto missing = test::enter_disk_lab(); !missing.empty()) give_up(missing);
    Source source(options);
    into_memory(source); // all of it in the page cache, everything started
    return {
        {"image_mib", options.image_mib},
        {"throttled", measure_on(source, options, true)},
        {"unthrottled", measure_on(source, options, false)},
    };
}

} // namespace thaw::bench
