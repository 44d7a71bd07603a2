// SPDX-License-Identifier: MIT

// The skeleton with a service that does what $TINY_DAEMON says:
//   fail-create, fail-start   end with an error
//   slow-stop                 finish stopping 100 ms after SIGTERM
//   store                     push a descriptor and pass a barrier once ready
//   hang                      block the loop once ready

#include "daemon/daemon.hpp"
#include "event/priorities.hpp"

#include <unistd.h>

#include <cstdlib>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace {

using namespace thaw;

class TinyService : public DaemonService {
public:
    TinyService(DaemonContext context, std::string mode)
        : context_(std::move(context)), mode_(std::move(mode)) {}

    Result<> start() override {
        if (mode_ == "fail-start") return fail(EADDRINUSE, "asked to fail");
        return {};
    }

    void ready() override {
        if (mode_ == "hang") sleep(60);
        if (mode_ != "store") return;
        FdStore store(4, context_.listen_fds.size());
        (void)store.push("tiny.input", STDIN_FILENO);
        auto barrier = NotifyBarrier::send(context_.loop, kUsecPerSec * 10, [](Result<> passed) {
            notify_status(passed ? "barrier passed" : "barrier failed");
        });
        if (barrier) barrier_ = std::move(*barrier);
    }

    void stop(std::function<void()> finished) override {
        if (mode_ != "slow-stop") {
            finished();
            return;
        }
        auto timer = context_.loop.add_timer(
            100 * kUsecPerMsec, std::move(finished), "slow-stop", priority::kTimer
        );
        if (timer) stopping_ = std::move(*timer);
    }

    std::string status_text() const override {
        std::string names;
        for (const auto& fd : context_.listen_fds)
            names += " " + fd.name;
        return "Tiny." + names;
    }

private:
    DaemonContext context_;
    std::string mode_;
    std::unique_ptr<NotifyBarrier> barrier_;
    EventSource stopping_;
};

} // namespace

int main(int argc, char** argv) {
    const char* mode = std::getenv("TINY_DAEMON");
    return run_daemon(
        argc, argv,
        {
            .name = "tiny-daemon",
            .description = "Does next to nothing.",
            .bus_name = "org.thaw.tiny1",
            .create = [mode](DaemonContext context) -> Result<std::unique_ptr<DaemonService>> {
                const std::string word = mode != nullptr ? mode : "";
                if (word == "fail-create") return fail(ENOSPC, "asked to fail");
                return std::make_unique<TinyService>(std::move(context), word);
            },
        }
    );
}

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
