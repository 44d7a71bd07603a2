// SPDX-License-Identifier: MIT
#pragma once

// One command, one answer: JSON objects (README.md lists them).

#include "config/json.hpp"
#include "tree.hpp"

#include <nlohmann/json.hpp>

#include <map>

namespace thaw::virtiofs {

class Commands {
public:
    explicit Commands(FuseClient* client) : client_(client), tree_(client) {}

    // {"ok": true, ...} or {"ok": false, "errno": "ENOENT", "error": text, "gone": bool}.
    nlohmann::json run(std::string_view line);
    // What the daemon offered, for the first line.
    nlohmann::json greeting() const;

private:
    using Answer = Result<nlohmann::json>;
    Answer dispatch(const JsonView& command);
    Answer look(const JsonView& command);
    Answer list(const JsonView& command);
    Answer walk(const JsonView& command);
    Answer forget(const JsonView& command);
    Answer read(const JsonView& command);
    Answer write(const JsonView& command);
    Answer create(const JsonView& command);
    Answer open(const JsonView& command);
    Answer close(const JsonView& command);
    Answer make_directory(const JsonView& command);
    Answer remove(const JsonView& command);
    Answer rename(const JsonView& command);
    Answer change(const JsonView& command);
    Answer file_system(const JsonView& command);
    Answer stream(const JsonView& command);
    Answer set_user(const JsonView& command);
    Answer garbage(const JsonView& command);

    FuseClient* client_;
    Tree tree_;
    std::map<std::uint64_t, Handle> open_files_;
    std::uint64_t next_file_ = 1;
};

// {"ok": false, ...} of an Error.
nlohmann::json failure(const Error& error, bool gone);

} // namespace thaw::virtiofs
