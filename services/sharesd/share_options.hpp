// SPDX-License-Identifier: MIT
#pragma once

// What a share was asked for: the options of AddShare, checked as far as that needs no look at the
// machine.

#include "bus/message.hpp"
#include "core/enum_table.hpp"
#include "core/text.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::sharesd {

enum class HandleMode { Auto, Mandatory, Prefer, Never };
inline constexpr EnumTable kHandleModeNames{std::array{
    std::pair{HandleMode::Auto, std::string_view("auto")},
    std::pair{HandleMode::Mandatory, std::string_view("mandatory")},
    std::pair{HandleMode::Prefer, std::string_view("prefer")},
    std::pair{HandleMode::Never, std::string_view("never")},
}};

enum class OnLowLimit { Fail, Degraded };
inline constexpr EnumTable kOnLowLimitNames{std::array{
    std::pair{OnLowLimit::Fail, std::string_view("fail")},
    std::pair{OnLowLimit::Degraded, std::string_view("degraded")},
}};

enum class CacheMode { Auto, Always, Never, Metadata };
inline constexpr EnumTable kCacheModeNames{std::array{
    std::pair{CacheMode::Auto, std::string_view("auto")},
    std::pair{CacheMode::Always, std::string_view("always")},
    std::pair{CacheMode::Never, std::string_view("never")},
    std::pair{CacheMode::Metadata, std::string_view("metadata")},
}};

enum class Sandbox { Namespace, Chroot, None };
inline constexpr EnumTable kSandboxNames{std::array{
    std::pair{Sandbox::Namespace, std::string_view("namespace")},
    std::pair{Sandbox::Chroot, std::string_view("chroot")},
    std::pair{Sandbox::None, std::string_view("none")},
}};

enum class OnLoss { Ignore, Stop };
inline constexpr EnumTable kOnLossNames{std::array{
    std::pair{OnLoss::Ignore, std::string_view("ignore")},
    std::pair{OnLoss::Stop, std::string_view("stop")},
}};

struct ShareOptions {
    bool read_only = false;
    std::string vm_unit; // empty: nobody's end is the share's
    HandleMode handles = HandleMode::Auto;
    std::uint64_t limit = 0; // LimitNOFILE
    OnLowLimit on_low_limit = OnLowLimit::Fail;
    std::uint64_t memory_high = kInfinity;
    CacheMode cache = CacheMode::Auto;
    Sandbox sandbox = Sandbox::Namespace;
    bool sandbox_chosen = false; // by the caller
    std::string user;            // empty: root
    std::string socket_user;     // empty: root
    std::string socket_group;    // empty: thaw-vmm
    std::vector<std::string> translate_uid;
    std::vector<std::string> translate_gid;
    bool xattr = false;
    bool posix_acl = false;
    bool allow_mmap = false;
    bool writeback = false;
    bool offer_tag = false;
    std::uint64_t threads = 0;
    bool reconnectable = false;
    OnLoss on_loss = OnLoss::Ignore;
};

// The a{sv} at the cursor of `message`; what is not named there is as in `defaults`. InvalidArgs
// for unknown keys and for values that make no sense.
Result<ShareOptions> read_options(BusMessage& message, const ShareOptions& defaults);

// A user or group as systemd takes it, without surprises: [A-Za-z_][A-Za-z0-9_-]{0,30} or a number.
bool is_valid_account(std::string_view name);
// An id map of virtiofsd: kind:number[:number...].
bool is_valid_id_map(std::string_view map);
// A name of a unit, without path and specifiers.
bool is_valid_unit(std::string_view name);

} // namespace thaw::sharesd
