// SPDX-License-Identifier: MIT
#include "attachment.hpp"

#include "event/signals_blocked.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

namespace thaw::nbd {

namespace {

// A device whose holder was killed is free once nobody has it open any more, udev for one.
constexpr int kAttempts = 20;
constexpr int kBetweenAttempts = 100; // ms
constexpr int kLooks = 5000;
constexpr int kBetweenLooks = 1; // ms

Result<Device> claim_any(const Fd& socket, const Export& what) {
    for (int attempt = 0; attempt < kAttempts; attempt++) {
        if (attempt > 0) ::poll(nullptr, 0, kBetweenAttempts);
        THAW_TRY(const auto numbers, free_devices());
        for (const unsigned number : numbers) {
            auto device = Device::claim(number, socket, what);
            if (device || device.error().code() != EBUSY) return device;
        }
    }
    return fail(EBUSY, "all nbd devices are in use: load the module nbd with a larger nbds_max=");
}

} // namespace

Attachment::Attachment(Fd socket, Device device, Fd ended)
    : socket_(std::move(socket)), device_(std::move(device)), ended_(std::move(ended)),
      thread_([this] {
          result_ = device_.run();
          static_cast<void>(::eventfd_write(ended_.get(), 1));
      }) {}

Attachment::~Attachment() {
    if (!thread_.joinable()) return;
    end();
    thread_.join();
}

Result<std::unique_ptr<Attachment>> Attachment::start(Fd socket, const Export& what) {
    Fd ended(::eventfd(0, EFD_CLOEXEC));
    if (!ended) return fail_errno(errno, "eventfd");
    THAW_TRY(auto device, claim_any(socket, what));
    std::unique_ptr<Attachment> attachment;
    {
        const AllSignalsBlocked blocked;
        attachment.reset(new Attachment(std::move(socket), std::move(device), std::move(ended)));
    }
    THAW_CHECK(attachment->await_up());
    return attachment;
}

// The kernel tells nobody.
Result<> Attachment::await_up() const {
    for (int look = 0; look < kLooks; look++) {
        THAW_TRY(const bool up, device_.is_up());
        if (up) return {};
        pollfd over{.fd = ended(), .events = POLLIN, .revents = 0};
        if (::poll(&over, 1, kBetweenLooks) != 0) break;
    }
    return fail(EIO, "{} did not come up", device_.path());
}

void Attachment::end() const {
    // The server hangs up when it is told; one that is stuck does not.
    static_cast<void>(device_.disconnect());
    ::shutdown(socket_.get(), SHUT_RDWR);
}

Result<> Attachment::finish() {
    thread_.join();
    return std::move(result_);
}

} // namespace thaw::nbd
