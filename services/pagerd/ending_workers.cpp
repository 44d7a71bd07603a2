// SPDX-License-Identifier: MIT
#include "broker.hpp"
#include "event/priorities.hpp"

namespace thaw::pagerd {

namespace {
constexpr Microseconds kGrace = kUsecPerSec;
} // namespace

void EndingWorkers::add(const void* id, std::unique_ptr<WorkerProcess> process) {
    auto* worker = process.get();
    Entry entry;
    auto deadline =
        loop_.add_timer(kGrace, [worker] { worker->kill(); }, "worker-ending", priority::kTimer);
    if (deadline)
        entry.deadline = std::move(*deadline);
    else
        worker->kill();
    entry.process = std::move(process);
    workers_.emplace(id, std::move(entry));
}

void EndingWorkers::forget(const void* id) {
    workers_.erase(id);
}

} // namespace thaw::pagerd
