// SPDX-License-Identifier: MIT
#include "pressure.hpp"

#include "core/file.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"

#include <fcntl.h>
#include <sys/epoll.h>

#include <string_view>

namespace thaw::diskguard {

namespace {
// Some task waited for 0.2 s within 2 s. Windows of whole 2 s are open to the unprivileged.
constexpr std::string_view kTrigger = "some 200000 2000000";
} // namespace

Result<std::unique_ptr<Pressure>>
Pressure::watch(EventLoop& loop, std::function<void()> stalled, const std::string& file) {
    auto pressure = std::make_unique<Pressure>();
    THAW_TRY(pressure->fd_, open_file(file, O_RDWR | O_NONBLOCK));
    // The kernel wants the terminating NUL.
    THAW_CHECK(
        write_all(pressure->fd_.get(), std::string_view(kTrigger.data(), kTrigger.size() + 1))
    );
    THAW_TRY(
        pressure->source_,
        loop.add_io(
            pressure->fd_.get(), EPOLLPRI,
            [self = pressure.get(), stalled = std::move(stalled)](std::uint32_t events) {
                if ((events & EPOLLERR) != 0) {
                    // Its file went away; it would be reported for ever.
                    self->source_.enable(false);
                    log_warning("the kernel reports disk pressure no more");
                    return;
                }
                stalled();
            },
            "disk-pressure", priority::kTimer
        )
    );
    return pressure;
}

} // namespace thaw::diskguard
