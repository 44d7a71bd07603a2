// SPDX-License-Identifier: MIT
// What the death of a worker, of the broker or of both costs a guest that touches its memory all
// the time.

#include "broker_rig.hpp"
#include "measures.hpp"

#include <algorithm>
#include <random>

namespace thaw::bench {

namespace {

using nlohmann::json;

struct Victims {
    const char* name;
    bool broker;
    bool worker;
    Microseconds after; // how long the guest is watched
    unsigned pause_us;  // between two touches: its pages must last for all kills
};

struct Findings {
    std::vector<std::uint64_t> longest; // touch around each kill
    std::vector<std::uint64_t> all;     // touches
};

Findings
watch(BrokerRig& rig, const Image& image, const Victims& victims, unsigned rounds, bool kill) {
    const std::string name = std::string(victims.name) + (kill ? "-killed" : "-spared");
    rig.create(name, image);
    const auto work = GuestProcess::Work::Touch;
    auto guest =
        rig.start(name, {.size = image.size(), .work = work, .pause_us = victims.pause_us});
    guest->work(true);
    Findings findings;
    std::mt19937_64 random(7);
    for (unsigned round = 0; round < rounds; ++round) {
        rig.run_for(2 * kUsecPerMsec + random() % (10 * kUsecPerMsec));
        const pid_t worker = victims.worker ? rig.worker(name) : 0;
        static_cast<void>(guest->take());
        if (kill) rig.kill(victims.broker, worker);
        rig.run_for(victims.after);
        const auto touches = guest->take();
        if (touches.empty()) give_up("a guest stands still");
        findings.longest.push_back(*std::ranges::max_element(touches));
        findings.all.insert(findings.all.end(), touches.begin(), touches.end());
    }
    rig.end(name, std::move(guest));
    return findings;
}

} // namespace

json measure_blackout(const Options& options) {
    const Image image(options.folder, 768 << 20, [](auto) { return false; });
    BrokerRig rig;
    json report;
    for (const Victims& victims :
         {Victims{"worker", false, true, 60 * kUsecPerMsec, 200},
          Victims{"broker", true, false, 60 * kUsecPerMsec, 200},
          Victims{"both", true, true, 350 * kUsecPerMsec, 500}}) {
        Findings killed = watch(rig, image, victims, options.kills, true);
        Findings spared = watch(rig, image, victims, options.kills / 4, false);
        report["blackout_ms"][victims.name] = {
            {"p50", percentile(killed.longest, 0.5) / 1e6},
            {"p99", percentile(killed.longest, 0.99) / 1e6},
            {"kills", killed.longest.size()},
            {"p99_nothing_killed", percentile(spared.longest, 0.99) / 1e6},
            {"touch_p99_ratio", percentile(killed.all, 0.99) / percentile(spared.all, 0.99)},
        };
    }
    return report;
}

} // namespace thaw::bench
