// SPDX-License-Identifier: MIT
#pragma once

// Which virtiofsd is installed, and its dialect: asked with --print-capabilities, once for each
// file that is there. Never waits: the answer comes from the event loop.

#include "core/file.hpp"
#include "dialect.hpp"
#include "event/event.hpp"

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::sharesd {

struct FoundDaemon {
    std::string program;
    Dialect dialect = Dialect::C;
};

class DaemonProbe {
public:
    // The first of `programs` that exists is the one.
    DaemonProbe(EventLoop& loop, std::vector<std::string> programs);
    ~DaemonProbe();
    DaemonProbe(const DaemonProbe&) = delete;
    DaemonProbe& operator=(const DaemonProbe&) = delete;

    // DaemonUnavailable when there is none or it does not answer as one.
    using Handler = std::function<void(Result<FoundDaemon>)>;
    void ask(Handler handler);

private:
    struct Run;
    Result<> launch(const std::string& program);
    void on_output();
    void finish(Result<FoundDaemon> result);
    void answer_later();

    EventLoop& loop_;
    std::vector<std::string> programs_;
    std::vector<Handler> waiting_;
    std::unique_ptr<Run> run_;
    std::optional<FoundDaemon> known_;
    FileIdentity known_identity_;
    std::optional<Result<FoundDaemon>> answer_;
    EventSource later_;
};

} // namespace thaw::sharesd
