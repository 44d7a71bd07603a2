// SPDX-License-Identifier: MIT
#include "death.hpp"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

namespace thaw::standin {
namespace {

[[noreturn]] void die(const Profile& profile) {
    if (profile.die_signal) {
        std::signal(*profile.die_signal, SIG_DFL);
        ::kill(::getpid(), *profile.die_signal);
        ::pause();
    }
    ::_exit(profile.die_exit_code);
}

} // namespace

void die_if_told(const Profile& profile, const char* moment) {
    if (profile.die_at == moment) {
        die(profile);
    }
}

void start_death_clock(const Profile& profile) {
    if (profile.die_at == "after-ms") {
        std::thread([profile] {
            std::this_thread::sleep_for(std::chrono::milliseconds(profile.die_after_ms));
            die(profile);
        }).detach();
    }
}

void prepare_sigterm(const Profile& profile) {
    if (profile.has("ignore_sigterm")) {
        std::signal(SIGTERM, SIG_IGN);
        return;
    }
    if (!profile.exit_delay_ms) {
        return; // a VMM has no handler: SIGTERM ends it at once
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr); // inherited by every later thread
    std::thread([set, delay = *profile.exit_delay_ms] {
        int number = 0;
        ::sigwait(&set, &number);
        std::this_thread::sleep_for(std::chrono::milliseconds(delay));
        ::_exit(0);
    }).detach();
}

} // namespace thaw::standin
