// SPDX-License-Identifier: MIT
#include "guest.hpp"

#include "kvm_guest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace thaw::standin {

using nlohmann::json;

Guest::Guest(
    GuestMemory& memory, PageLedger& ledger, std::shared_ptr<Reference> image, bool map_over,
    unsigned default_vcpus
)
    : world_{memory, ledger, std::move(image), map_over}, default_vcpus_(default_vcpus) {}

Result<void> Guest::start(const GuestParameters& parameters) {
    if (auto done = stop(1000); !done) {
        return done;
    }
    parameters_ = parameters;
    const unsigned count =
        parameters.kvm != "off" ? 1 : (parameters.vcpus != 0 ? parameters.vcpus : default_vcpus_);
    stats_.clear();
    stats_.resize(count);
    kvm_state_ = "off";
    stopping_ = false;
    live_ = count;
    for (unsigned i = 0; i < count; ++i) {
        threads_.emplace_back([this, i, count] { vcpu_main(i, count); });
    }
    return {};
}

void Guest::vcpu_main(unsigned number, unsigned count) {
    Vcpu vcpu(world_, parameters_, stats_[number], number, count);
    bool done = false;
    if (parameters_.kvm != "off") {
        const auto ran = try_kvm(vcpu);
        done = ran && *ran;
        if (!ran) {
            world_.add_error({{"kind", "kvm"}, {"text", ran.error()}});
            done = parameters_.kvm == "require";
        }
    }
    if (!done) {
        vcpu.run([this] { return checkpoint(); }, [this](std::uint64_t due) { wait_until(due); });
    }
    const std::lock_guard lock(mutex_);
    --live_;
    changed_.notify_all();
}

/// True: the KVM guest was the guest. False: it cannot run here and the profile allows that.
Result<bool> Guest::try_kvm(Vcpu& vcpu) {
    auto set_state = [this](std::string state) {
        const std::lock_guard lock(mutex_);
        kvm_state_ = std::move(state);
    };
    if (!checkpoint()) { // the first instruction waits for the resume, as any guest's does
        return true;
    }
    auto kvm = KvmGuest::create(world_.memory);
    if (!kvm) {
        set_state("unusable: " + kvm.error());
        return parameters_.kvm == "auto" ? Result<bool>(false) : fail(kvm.error());
    }
    set_state("running");
    if (auto ran = vcpu.run_kvm(**kvm, [this] { return checkpoint(); }); !ran) {
        set_state("failed: " + ran.error());
        return fail(ran.error());
    }
    set_state("ended");
    return true;
}

bool Guest::checkpoint() {
    if (!paused_.load(std::memory_order_acquire)) {
        return !stopping_.load(std::memory_order_acquire);
    }
    std::unique_lock lock(mutex_);
    ++parked_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !paused_.load() || stopping_.load(); });
    --parked_;
    return !stopping_.load();
}

void Guest::wait_until(std::uint64_t due_ns) {
    const std::uint64_t now = now_ns();
    if (due_ns > now) {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::nanoseconds(due_ns - now), [this] {
            return paused_.load() || stopping_.load();
        });
    }
}

Result<void>
Guest::wait_quiet(std::unique_lock<std::mutex>& lock, unsigned timeout_ms, bool all_gone) {
    const bool quiet = changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] {
        return all_gone ? live_ == 0 : parked_ >= live_;
    });
    if (!quiet) {
        return fail("vCPU does not answer: " + blocked_vcpus().dump());
    }
    return {};
}

Result<void> Guest::stop(unsigned timeout_ms) {
    {
        std::unique_lock lock(mutex_);
        stopping_ = true;
        changed_.notify_all();
        if (auto done = wait_quiet(lock, timeout_ms, true); !done) {
            return done;
        }
    }
    for (std::thread& thread : threads_) {
        thread.join();
    }
    threads_.clear();
    return {};
}

Result<void> Guest::pause(unsigned timeout_ms) {
    std::unique_lock lock(mutex_);
    paused_ = true;
    changed_.notify_all();
    return wait_quiet(lock, timeout_ms, false);
}

void Guest::resume() {
    const std::lock_guard lock(mutex_);
    paused_ = false;
    changed_.notify_all();
}

bool Guest::finished() {
    const std::lock_guard lock(mutex_);
    return live_ == 0;
}

json Guest::blocked_vcpus() const {
    json blocked = json::array();
    unsigned number = 0;
    for (const VcpuStats& stats : stats_) {
        const std::uint64_t since = stats.busy_since.load();
        const std::uint64_t now = now_ns();
        if (since != 0 && now > since + 1'000'000) { // shorter than 1 ms is not worth a word
            blocked.push_back(
                {{"vcpu", number},
                 {"offset", stats.busy_page.load() * small_page},
                 {"age_us", (now - since) / 1000}}
            );
        }
        ++number;
    }
    return blocked;
}

json Guest::report() {
    VcpuStats sum;
    std::uint64_t max_gap = 0;
    for (const VcpuStats& stats : stats_) {
        sum.reads += stats.reads;
        sum.writes += stats.writes;
        sum.first_touches += stats.first_touches;
        sum.drops += stats.drops;
        sum.dropped_pages += stats.dropped_pages;
        sum.mismatches += stats.mismatches;
        sum.poisoned += stats.poisoned;
        sum.kvm_batches += stats.kvm_batches;
        sum.kvm_pages += stats.kvm_pages;
        sum.kvm_passes += stats.kvm_passes;
        sum.all.add(stats.all);
        sum.first.add(stats.first);
        max_gap = std::max(max_gap, stats.max_gap_ns.load());
    }
    json out = {
        {"vcpus", stats_.size()},
        {"paused", paused()},
        {"finished", finished()},
        {"touches", sum.reads + sum.writes},
        {"reads", sum.reads.load()},
        {"writes", sum.writes.load()},
        {"first_touches", sum.first_touches.load()},
        {"drops", sum.drops.load()},
        {"dropped_pages", sum.dropped_pages.load()},
        {"mismatches", sum.mismatches.load()},
        {"poisoned", sum.poisoned.load()},
        {"max_touch_gap_us", max_gap / 1000},
        {"touch_latency_ns", sum.all.to_json()},
        {"first_touch_latency_ns", sum.first.to_json()},
        {"checked", parameters_.check && world_.image != nullptr},
        {"blocked", blocked_vcpus()}
    };
    {
        const std::lock_guard lock(mutex_);
        out["kvm"] = {
            {"state", kvm_state_},
            {"batches", sum.kvm_batches.load()},
            {"pages", sum.kvm_pages.load()},
            {"passes", sum.kvm_passes.load()}
        };
    }
    const std::lock_guard lock(world_.mutex);
    out["error_count"] = world_.error_count.load();
    out["errors"] = world_.errors;
    return out;
}

} // namespace thaw::standin
