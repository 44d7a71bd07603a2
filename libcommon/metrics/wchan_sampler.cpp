// SPDX-License-Identifier: MIT
#include "metrics/wchan_sampler.hpp"

#include "core/file.hpp"
#include "event/signals_blocked.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace thaw::metrics {

namespace {

// The function is inlined into others of its name by some compilers
// (balance_dirty_pages_ratelimited_flags).
constexpr std::string_view kThrottle = "balance_dirty_pages";
constexpr int kProbeSteps = 50;
constexpr useconds_t kProbeStepUsec = 1000;

struct Symbol {
    std::array<char, 128> text{};
    std::size_t size = 0;
    std::string_view view() const { return {text.data(), size}; }
};

// "0" for a thread that runs, and on kernels that do not say. Empty when the thread is gone.
Symbol read_symbol(int fd) {
    Symbol symbol;
    const auto n = pread(fd, symbol.text.data(), symbol.text.size(), 0);
    symbol.size = n > 0 ? static_cast<std::size_t>(n) : 0;
    return symbol;
}

Result<Fd> open_wchan(pid_t thread) {
    return open_file("/proc/self/task/" + std::to_string(thread) + "/wchan", O_RDONLY);
}

bool shows_a_sleeper() {
    const Fd bell(eventfd(0, EFD_CLOEXEC));
    if (!bell) return false;
    std::atomic<pid_t> sleeper = 0;
    std::thread thread;
    try {
        const AllSignalsBlocked blocked;
        thread = std::thread([&] {
            sleeper = gettid();
            eventfd_t value = 0;
            eventfd_read(bell.get(), &value);
        });
    } catch (const std::system_error&) {
        return false; // no thread can be had: nothing is known
    }
    bool shown = false;
    for (int step = 0; step < kProbeSteps && !shown; ++step) {
        if (sleeper != 0) {
            const auto wchan = open_wchan(sleeper);
            const Symbol symbol = wchan ? read_symbol(wchan->get()) : Symbol{};
            shown = symbol.size > 0 && symbol.view() != "0";
        }
        if (!shown) usleep(kProbeStepUsec);
    }
    eventfd_write(bell.get(), 1);
    thread.join();
    return shown;
}

} // namespace

WchanSampler::WchanSampler() : known_(shows_a_sleeper()) {}

void WchanSampler::refresh_threads() {
    struct Close {
        void operator()(DIR* folder) const { closedir(folder); }
    };
    const std::unique_ptr<DIR, Close> folder(opendir("/proc/self/task"));
    if (!folder) return;
    std::map<pid_t, Fd> now;
    while (const dirent* entry = readdir(folder.get())) {
        pid_t thread = 0;
        const char* end = entry->d_name + std::strlen(entry->d_name);
        if (std::from_chars(entry->d_name, end, thread).ptr != end || thread <= 0) continue;
        if (now.size() == kMaxThreads) break;
        auto known = threads_.extract(thread);
        if (!known.empty()) {
            now.insert(std::move(known));
            continue;
        }
        if (auto fd = open_wchan(thread)) now.emplace(thread, std::move(*fd));
    }
    threads_ = std::move(now);
}

std::optional<std::uint32_t> WchanSampler::throttled_threads() {
    if (!known_) return std::nullopt;
    refresh_threads();
    std::uint32_t count = 0;
    for (auto& [thread, fd] : threads_) {
        Symbol symbol = read_symbol(fd.get());
        if (symbol.size == 0) {
            // The number is another thread's by now.
            auto again = open_wchan(thread);
            if (!again) continue;
            fd = std::move(*again);
            symbol = read_symbol(fd.get());
        }
        count += symbol.view().starts_with(kThrottle) ? 1 : 0;
    }
    return count;
}

} // namespace thaw::metrics
