// SPDX-License-Identifier: MIT
// Only part of builds with sanitizers: at its end a worker would be looked through for leaks with
// system calls that its sandbox refuses, and never come to that end. The parts of it are checked in
// the unit tests.

extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming): its name
[[gnu::visibility("default")]] int __lsan_is_turned_off();
// NOLINTNEXTLINE(readability-identifier-naming)
int __lsan_is_turned_off() {
    return 1;
}
}
