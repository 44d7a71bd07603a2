// SPDX-License-Identifier: MIT
#include "side_thread.hpp"

#include "control_server.hpp"
#include "event/priorities.hpp"
#include "event/signals_blocked.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "space_watch.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <future>

namespace thaw::rootfs {

namespace {

// What lives in the loop. Built before the thread starts, so that its errors are the start's.
class Side {
public:
    Side(EventLoop loop, Overlay& overlay, const Settings& settings)
        : loop_(std::move(loop)), overlay_(overlay), settings_(settings) {}

    Result<> start(int stop, const std::atomic<unsigned>& clients) {
        THAW_TRY(
            stop_, loop_.add_io(
                       stop, EPOLLIN, [this](std::uint32_t) { loop_.exit(0); }, "rootfs stop",
                       priority::kTerminate
                   )
        );
        if (settings_.control >= 0) {
            THAW_TRY(
                control_,
                ControlServer::create(loop_, overlay_, settings_, clients, Fd(settings_.control))
            );
        }
        watch_space();
        return {};
    }
    void run() { static_cast<void>(loop_.run()); }

private:
    void watch_space() {
        const auto& folder = settings_.durable.empty() ? settings_.spill : settings_.durable;
        if (folder.empty()) return;
        auto watch = SpaceWatch::create(
            loop_, folder,
            [this](guard::Level level, const std::string& volume) { on_level(level, volume); }
        );
        // No bus, no guardian: the file system itself says when it is full.
        if (watch)
            space_ = std::move(*watch);
        else
            log_info("the disk's room is not watched: {}", watch.error().message());
    }
    void on_level(guard::Level level, const std::string& volume) {
        const bool grows = may_grow(level);
        if (std::exchange(grows_, grows) == grows) return;
        overlay_.allow_growth(grows);
        const auto name = diskguard1::kLevelNames.name(level);
        const LogFields fields{{"THAW_INSTANCE", settings_.name}, {"THAW_VOLUME", volume}};
        if (grows)
            log_event(
                LogLevel::Notice, message_id::kRootfsGrows, fields,
                "{}: its disk is {} again, the root file system's overlay may grow", settings_.name,
                name
            );
        else
            log_event(
                LogLevel::Warning, message_id::kRootfsGrowthStopped, fields,
                "{}: the disk is {}, the root file system's overlay takes no more of it",
                settings_.name, name
            );
    }

    EventLoop loop_;
    Overlay& overlay_;
    const Settings& settings_;
    bool grows_ = true;
    EventSource stop_;
    std::unique_ptr<ControlServer> control_;
    std::unique_ptr<SpaceWatch> space_;
};

} // namespace

Result<std::unique_ptr<SideThread>> SideThread::start(
    Overlay& overlay, const Settings& settings, const std::atomic<unsigned>& clients
) {
    Fd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stop) return fail_errno(errno, "eventfd");
    const int descriptor = stop.get();
    std::unique_ptr<SideThread> side(new SideThread(std::move(stop)));
    // Signals are nbdkit's main thread's.
    const AllSignalsBlocked blocked;
    std::promise<Result<>> started;
    auto outcome = started.get_future();
    side->thread_ = std::thread([&overlay, &settings, &clients, descriptor,
                                 started = std::move(started)]() mutable {
        auto loop = EventLoop::create();
        if (!loop) return started.set_value(std::unexpected(loop.error()));
        Side inside(std::move(*loop), overlay, settings);
        auto ready = inside.start(descriptor, clients);
        const bool failed = !ready;
        started.set_value(std::move(ready));
        if (!failed) inside.run();
    });
    THAW_CHECK(outcome.get());
    return side;
}

SideThread::~SideThread() {
    ::eventfd_write(stop_.get(), 1);
    if (thread_.joinable()) thread_.join();
}

} // namespace thaw::rootfs
