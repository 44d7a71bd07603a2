// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "fakes/socket_activated.hpp"
#include "fakes/web_lab.hpp"
#include "fetch/fetch_client.hpp"
#include "measures.hpp"
#include "pager/broker_rig.hpp"
#include "protocol/chunk_map.hpp"

#include <fmt/format.h>

#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <set>

namespace thaw::bench {

namespace {

// Runs of three pages all over three quarters of the image, in an order of their own.
std::vector<std::uint32_t> working_set(std::uint64_t pages, std::uint64_t count) {
    constexpr std::uint64_t kRun = 3;
    std::vector<std::uint32_t> set;
    const std::uint64_t slots = pages * 3 / 4 / kRun;
    for (std::uint64_t i = 0; set.size() < count; ++i)
        for (std::uint64_t page = 0; page < kRun; ++page)
            set.push_back(static_cast<std::uint32_t>(i * 7919 % slots * kRun + page));
    return set;
}

} // namespace

nlohmann::json measure_shared(const CacheOptions& options) {
    if (!fakes::WebLab::available()) give_up("nginx, python3 and openssl are needed");
    const std::string folder = options.folder + "/shared";
    const std::string config = folder + "/fetchd.conf";
    for (const auto* name : {"/image", "/credentials"})
        must(make_directories(folder + name), "make a folder");
    must(write_file_atomic(config, "[Fetch]\nTimeoutSec=10min\n"), "configure the fetcher");
    const auto web = must(fakes::WebLab::create(folder + "/web", FAULT_PROXY), "start nginx");
    const Image image(folder + "/image", options.vm_mib << 20, [](std::uint64_t) { return false; });
    std::error_code code;
    std::filesystem::create_hard_link(folder + "/image/memory", web->www("/memory"), code);
    if (code) give_up("link the image: " + code.message());

    const std::string socket = folder + "/fetch.sock";
    BrokerRig rig(fmt::format("FetchSocket={}\nCacheMemoryMax=2G\n", socket));
    const auto service = must(
        fakes::SocketActivated::create(
            rig.loop(), socket, SOCK_SEQPACKET,
            {
                .program = THAW_FETCHD_PATH,
                .descriptors = {},
                .environment =
                    {{"THAW_FETCHD_CONFIG", config},
                     {"CREDENTIALS_DIRECTORY", folder + "/credentials"}},
            }
        ),
        "start the fetcher"
    );
    const std::string url = web->url("/memory");
    std::optional<fetch::FetchEnd> found;
    auto client = must(fetch::FetchClient::create(rig.loop(), socket), "make a client");
    must(client->probe(url, [&](fetch::FetchEnd end) { found = std::move(end); }), "probe");
    if (!fakes::run_until(rig.loop(), [&] { return found.has_value(); })) give_up("no answer");

    const auto set = working_set(image.pages(), (options.set_mib << 20) / kPage);
    std::set<std::uint64_t> chunks{0}; // the first page is touched as well
    for (const std::uint32_t page : set)
        chunks.insert(page / protocol::kChunkPages);
    std::vector<std::unique_ptr<GuestProcess>> guests;
    nlohmann::json times = nlohmann::json::array();
    for (unsigned i = 0; i < options.vms; ++i) {
        const std::string name = fmt::format("vm{}", i);
        rig.create_remote(name, image, url, found->identity);
        const std::uint64_t begun = now_ns();
        guests.push_back(rig.start(
            name, {.socket = {},
                   .size = image.size(),
                   .work = GuestProcess::Work::Touch,
                   .pause_us = 0,
                   .pages = set}
        ));
        guests.back()->work(true);
        std::size_t done = 0;
        if (!fakes::run_until(
                rig.loop(), [&] { return (done += guests.back()->take().size()) >= set.size(); },
                300 * kUsecPerSec
            ))
            give_up("a working set did not come in");
        times.push_back(static_cast<double>(now_ns() - begun) / 1e6);
    }
    const std::uint64_t fetched = rig.cache_number("BytesFetched");
    nlohmann::json report{
        {"vms", options.vms},
        {"image_mib", options.vm_mib},
        {"working_set_mib", options.set_mib},
        {"bytes_fetched", fetched},
        {"chunk_bytes_touched", chunks.size() * protocol::kChunkSize},
        {"fetched_ratio",
         static_cast<double>(fetched) / static_cast<double>(chunks.size() * protocol::kChunkSize)},
        {"first_vm_ms", times.front()},
        {"last_vm_ms", times.back()},
        {"memory_used", rig.cache_number("MemoryUsed")},
    };
    for (unsigned i = 0; i < options.vms; ++i)
        rig.end(fmt::format("vm{}", i), std::move(guests[i]));
    return report;
}

} // namespace thaw::bench
