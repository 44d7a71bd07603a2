// SPDX-License-Identifier: MIT
#include "vcpu.hpp"

#include "kvm_guest.hpp"
#include "touch_guard.hpp"

#include <algorithm>
#include <cstring>

namespace thaw::standin {
namespace {

constexpr std::size_t errors_kept = 16;

void raise_to(std::atomic<std::uint64_t>& maximum, std::uint64_t value) {
    if (value > maximum.load(std::memory_order_relaxed)) {
        maximum.store(value, std::memory_order_relaxed);
    }
}

} // namespace

void GuestWorld::add_error(nlohmann::json error) {
    error_count.fetch_add(1);
    const std::lock_guard lock(mutex);
    if (errors.size() < errors_kept) {
        errors.push_back(std::move(error));
    }
}

Vcpu::Vcpu(
    GuestWorld& world, const GuestParameters& parameters, VcpuStats& stats, unsigned number,
    unsigned count
)
    : world_(world), parameters_(parameters), stats_(stats),
      random_(parameters.seed * 1000 + number), count_(count),
      host_page_(world.memory.page_size() / small_page) {
    const std::uint64_t units = world.memory.pages() / host_page_;
    begin_ = units * number / count * host_page_;
    end_ = units * (number + 1) / count * host_page_;
}

std::optional<std::uint64_t> Vcpu::next_page(std::uint64_t index) {
    const std::uint64_t size = end_ - begin_;
    switch (parameters_.pattern) {
    case GuestParameters::Pattern::none:
        return std::nullopt;
    case GuestParameters::Pattern::sequential:
        return begin_ + index % size;
    case GuestParameters::Pattern::random:
        return begin_ + random_.below(size);
    case GuestParameters::Pattern::working_set: {
        // The set is made of runs of eight pages; nine touches of ten stay within it.
        const std::uint64_t runs = std::max<std::uint64_t>(1, size / 8);
        const std::uint64_t hot =
            std::max<std::uint64_t>(1, runs * parameters_.working_set_percent / 100);
        if (random_.below(10) == 0) {
            return begin_ + random_.below(size);
        }
        const std::uint64_t run = mix64(parameters_.seed + random_.below(hot)) % runs;
        return begin_ + std::min(size - 1, run * 8 + random_.below(8));
    }
    }
    return std::nullopt;
}

void Vcpu::check_page(std::uint64_t page) {
    std::uint8_t actual[small_page];
    if (!guarded_copy(actual, world_.memory.page(page), small_page)) {
        return;
    }
    const Verdict verdict = judge(*world_.image, world_.memory, world_.ledger, page, actual);
    if (verdict != Verdict::equal) {
        stats_.mismatches.fetch_add(1, std::memory_order_relaxed);
        world_.add_error({{"offset", page * small_page}, {"kind", verdict_name(verdict)}});
    }
}

void Vcpu::touch(std::uint64_t page, bool write) {
    std::uint8_t* address = world_.memory.page(page);
    const std::size_t at = write && !guest_writes_whole_page(page) ? guest_stamp_offset(page) : 0;
    std::uint32_t generation = 0;
    std::uint8_t next[small_page];
    std::uint8_t value = 0;
    if (write) {
        generation = world_.ledger.next_write(page);
        apply_guest_write(page, generation, next);
        value = next[at];
    }
    const std::uint64_t started = now_ns();
    stats_.busy_page.store(page, std::memory_order_relaxed);
    stats_.busy_since.store(started, std::memory_order_relaxed);
    const bool alive =
        write ? guarded_write(address + at, value) : guarded_read(address + at, value);
    const std::uint64_t ended = now_ns();
    stats_.busy_since.store(0, std::memory_order_relaxed);
    (write ? stats_.writes : stats_.reads).fetch_add(1, std::memory_order_relaxed);
    stats_.all.record(ended - started);
    if (world_.ledger.mark_touched(page / host_page_ * host_page_)) {
        stats_.first_touches.fetch_add(1, std::memory_order_relaxed);
        stats_.first.record(ended - started);
    }
    if (last_end_ != 0) {
        raise_to(stats_.max_gap_ns, ended - last_end_);
    }
    last_end_ = ended;
    if (!alive) {
        stats_.poisoned.fetch_add(1, std::memory_order_relaxed);
        world_.add_error({{"offset", page * small_page}, {"kind", "poisoned"}});
        return;
    }
    if (write) {
        apply_guest_write(page, generation, address);
    }
    if (parameters_.check && world_.image) {
        check_page(page);
    }
}

void Vcpu::drop(std::uint64_t page, std::uint64_t count) {
    const std::uint64_t first = page / host_page_ * host_page_;
    std::uint64_t last = (page + count + host_page_ - 1) / host_page_ * host_page_;
    last = std::min({last, end_, world_.memory.region_end(first)});
    stats_.busy_page.store(first, std::memory_order_relaxed);
    stats_.busy_since.store(now_ns(), std::memory_order_relaxed);
    auto dropped = world_.memory.drop(first, last - first, world_.map_over);
    stats_.busy_since.store(0, std::memory_order_relaxed);
    if (!dropped) {
        world_.add_error({{"offset", first * small_page}, {"kind", dropped.error()}});
        return;
    }
    for (std::uint64_t at = first; at < last; ++at) {
        world_.ledger.dropped(at);
    }
    stats_.drops.fetch_add(1, std::memory_order_relaxed);
    stats_.dropped_pages.fetch_add(last - first, std::memory_order_relaxed);
}

void Vcpu::random_drop() {
    const std::uint64_t page = begin_ + random_.below(end_ - begin_);
    drop(page, 1 + random_.below(parameters_.drop_pages));
}

void Vcpu::replay_step(const GuestParameters::TraceStep& step) {
    const std::uint64_t first = std::max(step.page, begin_);
    const std::uint64_t last = std::min(step.page + step.count, end_);
    if (first >= last) {
        return;
    }
    if (step.op == 'd') {
        drop(first, last - first);
        return;
    }
    for (std::uint64_t page = first; page < last; ++page) {
        touch(page, step.op == 'w');
    }
}

bool Vcpu::replay(const std::function<bool()>& checkpoint) {
    do {
        for (const auto& step : parameters_.trace) {
            if (!checkpoint()) {
                return false;
            }
            replay_step(step);
        }
    } while (parameters_.trace_repeat);
    return true;
}

void Vcpu::run(
    const std::function<bool()>& checkpoint, const std::function<void(std::uint64_t)>& wait_until
) {
    if (begin_ == end_) {
        return;
    }
    if (!parameters_.trace.empty()) {
        replay(checkpoint);
        return;
    }
    const std::uint64_t rate = parameters_.rate_per_second;
    const std::uint64_t interval = rate == 0 ? 0 : 1'000'000'000ULL * count_ / rate;
    std::uint64_t due = now_ns();
    for (std::uint64_t i = 0; checkpoint(); ++i) {
        if (parameters_.touches != 0 && i >= parameters_.touches) {
            return;
        }
        if (interval != 0) {
            due = std::max(due + interval, now_ns() - interval);
            wait_until(due);
        }
        const auto page = next_page(i);
        if (!page) {
            return;
        }
        touch(*page, random_.below(100) < parameters_.write_percent);
        if (parameters_.drop_every != 0 && (i + 1) % parameters_.drop_every == 0) {
            random_drop();
        }
    }
}

Result<void> Vcpu::kvm_batch(
    KvmGuest& kvm, std::uint64_t first, std::uint64_t last, std::uint32_t pass, bool write
) {
    std::uint64_t expected = 0;
    const bool check = parameters_.check && world_.image;
    for (std::uint64_t page = first; check && page < last; ++page) {
        std::uint8_t wanted[small_page];
        world_.ledger.expect(*world_.image, world_.memory, page, wanted);
        std::uint64_t word;
        std::memcpy(&word, wanted, sizeof(word));
        expected += word;
    }
    const std::uint64_t from = world_.memory.guest_address(first);
    const std::uint64_t started = now_ns();
    stats_.busy_page.store(first, std::memory_order_relaxed);
    stats_.busy_since.store(started, std::memory_order_relaxed);
    auto sum = kvm.walk(from, from + (last - first) * small_page, write ? kvm_key(pass) : 0);
    stats_.busy_since.store(0, std::memory_order_relaxed);
    if (!sum) {
        return fail(sum.error());
    }
    stats_.kvm_batches.fetch_add(1, std::memory_order_relaxed);
    stats_.kvm_pages.fetch_add(last - first, std::memory_order_relaxed);
    for (std::uint64_t page = first; write && page < last; ++page) {
        world_.ledger.kvm_written(page, pass);
    }
    if (check && *sum != expected) {
        stats_.mismatches.fetch_add(1, std::memory_order_relaxed);
        world_.add_error({{"offset", first * small_page}, {"kind", "kvm_checksum"}});
    }
    return {};
}

Result<void> Vcpu::run_kvm(KvmGuest& kvm, const std::function<bool()>& checkpoint) {
    std::uint64_t touched = 0;
    for (std::uint32_t pass = 1;; ++pass) {
        for (std::uint64_t page = 0; page < world_.memory.pages();) {
            if (!checkpoint() || (parameters_.touches != 0 && touched >= parameters_.touches)) {
                return {};
            }
            const std::uint64_t last =
                std::min(page + parameters_.kvm_batch_pages, world_.memory.region_end(page));
            const bool write = random_.below(100) < parameters_.write_percent;
            if (auto done = kvm_batch(kvm, page, last, pass, write); !done) {
                return done;
            }
            touched += last - page;
            if (parameters_.drop_every != 0 &&
                touched / parameters_.drop_every !=
                    (touched - (last - page)) / parameters_.drop_every) {
                random_drop();
            }
            page = last;
        }
        stats_.kvm_passes.fetch_add(1, std::memory_order_relaxed);
    }
}

} // namespace thaw::standin
