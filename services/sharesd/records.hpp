// SPDX-License-Identifier: MIT
#pragma once

// What is known of a share beyond a restart of ours: one file each, /run/thaw/sharesd/ID.json, gone
// with the share (and with the boot, as its units are).

#include "dialect.hpp"
#include "exit_class.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::sharesd {

struct Record {
    std::string vm;
    std::string tag;
    std::string source;
    std::string program;
    std::uint32_t owner = 0;
    std::uint64_t started = 0; // wall clock
    Dialect dialect = Dialect::C;
    HandleMode handles = HandleMode::Never;
    std::string handles_reason;
    std::uint64_t limit = 0; // asked for, clamped
    ShareOptions options;
    bool ready = false;     // AddShare was answered
    bool vm_seen = false;   // the VM's unit ran
    bool connected = false; // a VMM was seen at the socket
    std::uint64_t restarts = 0;
    ExitClass exit = ExitClass::None;
    std::string error_name; // of a share that is lost
    std::string error_message;
    bool lost = false;
    bool ending = false; // somebody removes it
};

std::string format_record(const Record& record);
Result<Record> parse_record(std::string_view text);

class RecordStore {
public:
    explicit RecordStore(std::string directory) : directory_(std::move(directory)) {}
    Result<> save(const Record& record) const;
    Result<> remove(const std::string& vm, const std::string& tag) const;
    struct Damaged {
        std::string file;
        std::string why;
    };
    struct Content {
        std::vector<Record> records;
        std::vector<Damaged> damaged;
    };
    Result<Content> load() const;

private:
    std::string path_of(const std::string& vm, const std::string& tag) const;
    std::string directory_;
};

} // namespace thaw::sharesd
