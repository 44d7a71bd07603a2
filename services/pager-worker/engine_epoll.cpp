// SPDX-License-Identifier: MIT
#include "clock.hpp"
#include "core/fd.hpp"
#include "fault_engine.hpp"
#include "reader_threads.hpp"

#include <sys/epoll.h>

#include <array>
#include <vector>

namespace thaw::worker {

namespace {

class EpollEngine final : public FaultEngine {
public:
    EpollEngine(Fd epoll, const Descriptors& fds, const MessageRing& ring, MessageSink& sink)
        : epoll_(std::move(epoll)), uffd_(fds.uffd), ring_(ring), sink_(sink) {}

    protocol::FaultEngineKind kind() const override { return protocol::FaultEngineKind::Epoll; }
    Result<> drain() override;
    Result<EngineEvents> wait(std::uint64_t deadline_ns) override;
    Result<> watch_channel(int fd) override;
    Result<> read(const ReadRequest& request) override { return readers_->add(request); }
    Result<> start_readers();

    enum Tag : std::uint32_t { Uffd, Vmm, Channel, Reads };
    Result<> add(int fd, Tag tag);

private:
    Fd epoll_;
    int uffd_;
    int channel_ = -1;
    MessageRing ring_;
    MessageSink& sink_;
    std::unique_ptr<ReaderThreads> readers_;
    std::vector<ReadEnd> reads_; // ended since wait() began
};

Result<> EpollEngine::add(int fd, Tag tag) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = tag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        return fail_errno(errno, "watch a descriptor");
    return {};
}

Result<> EpollEngine::start_readers() {
    THAW_TRY(readers_, ReaderThreads::start());
    return add(readers_->fd(), Reads);
}

Result<> EpollEngine::drain() {
    return ring_.read_all(uffd_, sink_);
}

Result<EngineEvents> EpollEngine::wait(std::uint64_t deadline_ns) {
    timespec timeout{};
    if (deadline_ns != kNever) {
        const std::uint64_t now = now_ns();
        const std::uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
        timeout.tv_sec = static_cast<time_t>(left / 1'000'000'000);
        timeout.tv_nsec = static_cast<long>(left % 1'000'000'000);
    }
    std::array<epoll_event, 5> events;
    const int count = ::epoll_pwait2(
        epoll_.get(), events.data(), static_cast<int>(events.size()),
        deadline_ns == kNever ? nullptr : &timeout, nullptr
    );
    EngineEvents result;
    if (count < 0 && errno != EINTR) return fail_errno(errno, "wait for events");
    for (int i = 0; i < count; ++i) {
        switch (events[static_cast<std::size_t>(i)].data.u32) {
        case Uffd:
            THAW_CHECK(drain());
            break;
        case Vmm:
            result.vmm_exited = true;
            break;
        case Reads:
            readers_->take(reads_);
            result.reads = reads_;
            break;
        default:
            result.channel = true;
            break;
        }
    }
    return result;
}

Result<> EpollEngine::watch_channel(int fd) {
    // A closed descriptor has left the set by itself; ENOENT and EBADF are as good as success.
    if (channel_ >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, channel_, nullptr);
    channel_ = fd;
    return fd < 0 ? Result<>() : add(fd, Channel);
}

} // namespace

Result<std::unique_ptr<FaultEngine>> make_epoll_engine(
    const FaultEngine::Descriptors& descriptors, const MessageRing& ring, MessageSink& sink
) {
    Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return fail_errno(errno, "make an epoll set");
    auto engine = std::make_unique<EpollEngine>(std::move(epoll), descriptors, ring, sink);
    THAW_CHECK(engine->add(descriptors.uffd, EpollEngine::Uffd));
    THAW_CHECK(engine->add(descriptors.vmm_pidfd, EpollEngine::Vmm));
    THAW_CHECK(engine->start_readers());
    return engine;
}

} // namespace thaw::worker
