// SPDX-License-Identifier: MIT
#pragma once

// What `thawctl share add` and `share open` ask the supervisor for.

#include "bus/message.hpp"
#include "core/error.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thaw::ctl {

// As typed; empty: the supervisor's default.
struct ShareArguments {
    std::string name; // of the VM
    std::string tag;
    std::string source;
    bool read_only = false;
    std::string unit;
    std::string file_handles;
    std::string limit;
    std::string on_low_limit;
    std::string memory_high;
    std::string cache;
    std::string sandbox;
    std::string user;
    std::string socket_user;
    std::string socket_group;
    std::vector<std::string> translate_uid;
    std::vector<std::string> translate_gid;
    bool xattr = false;
    bool posix_acl = false;
    bool allow_mmap = false;
    bool writeback = false;
    std::string threads;
    bool reconnectable = false;
    bool offer_tag = false;
    std::string on_loss;
    bool force = false; // of remove
};

// Appends the arguments of AddShare: name, tag, source, options, flags. EINVAL for a bad number.
Result<> append_share_request(BusMessage& message, const ShareArguments& arguments);

// The source as the supervisor wants it: absolute, without "." and ".."; links stay in it and are
// the supervisor's to refuse.
Result<std::string> absolute_source(const std::string& path);

} // namespace thaw::ctl
