// SPDX-License-Identifier: MIT
#include "touch_guard.hpp"

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstring>

namespace thaw::standin {
namespace {

std::atomic<bool> counting{false};
thread_local sigjmp_buf escape;
thread_local volatile sig_atomic_t guarded = 0;

void on_sigbus(int) {
    if (guarded != 0) {
        siglongjmp(escape, 1);
    }
    std::signal(SIGBUS, SIG_DFL);
    std::raise(SIGBUS);
}

/// Runs the access; false when it raised SIGBUS.
template <typename Access>
bool run_guarded(Access access) {
    if (!counting.load(std::memory_order_relaxed)) {
        access();
        return true;
    }
    if (sigsetjmp(escape, 0) != 0) {
        guarded = 0;
        return false;
    }
    guarded = 1;
    access();
    guarded = 0;
    return true;
}

} // namespace

void install_sigbus_counter() {
    struct sigaction action{};
    action.sa_handler = on_sigbus;
    action.sa_flags = SA_NODEFER; // the handler leaves by siglongjmp
    ::sigaction(SIGBUS, &action, nullptr);
    counting = true;
}

bool guarded_read(const std::uint8_t* address, std::uint8_t& value) {
    return run_guarded([&] { value = *static_cast<const volatile std::uint8_t*>(address); });
}

bool guarded_write(std::uint8_t* address, std::uint8_t value) {
    return run_guarded([&] { *static_cast<volatile std::uint8_t*>(address) = value; });
}

bool guarded_copy(std::uint8_t* to, const std::uint8_t* from, std::size_t size) {
    return run_guarded([&] { std::memcpy(to, from, size); });
}

} // namespace thaw::standin
