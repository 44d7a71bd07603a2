// SPDX-License-Identifier: MIT
#pragma once

// Names of what may go wrong with an image's remote source: what thaw-fetchd answers, sessions and
// jobs report and thawctl prints.

#include "bus/errors.hpp"

#include <array>
#include <cerrno>
#include <string_view>

namespace thaw::source_error {

// No such host, nobody listens, no route; or thaw-fetchd itself cannot be reached or keeps dying.
inline constexpr std::string_view kUnreachable = "org.thaw.pager1.Error.SourceUnreachable";
// Nothing came for a while, or all of it did not come in time.
inline constexpr std::string_view kTimeout = "org.thaw.pager1.Error.SourceTimeout";
// The connection broke in the middle.
inline constexpr std::string_view kReset = "org.thaw.pager1.Error.SourceReset";
// The server answered with an error of its own (4xx, 5xx, a redirection).
inline constexpr std::string_view kRefused = "org.thaw.pager1.Error.SourceRefused";
// It did not answer with the bytes that were asked for.
inline constexpr std::string_view kRange = "org.thaw.pager1.Error.SourceRange";
// It sent fewer bytes than it had announced.
inline constexpr std::string_view kShort = "org.thaw.pager1.Error.SourceShort";
// The object is another one than the image was added with.
inline constexpr std::string_view kChanged = "org.thaw.pager1.Error.SourceChanged";
// The server's certificate is not to be trusted, or TLS failed.
inline constexpr std::string_view kTls = "org.thaw.pager1.Error.SourceTls";
// The server wants other credentials (401, 403), or ours cannot be used.
inline constexpr std::string_view kCredentials = "org.thaw.pager1.Error.SourceCredentials";
// What came is not HTTP.
inline constexpr std::string_view kProtocol = "org.thaw.pager1.Error.SourceProtocol";
// A source that is a file cannot be read.
inline constexpr std::string_view kRead = "org.thaw.pager1.Error.SourceReadFailed";
// What was fetched cannot be written where it belongs.
inline constexpr std::string_view kTarget = "org.thaw.pager1.Error.SourceTargetFailed";
// The caller gave the transfer up.
inline constexpr std::string_view kCanceled = "org.thaw.pager1.Error.SourceCanceled";
// The request itself makes no sense: a URL that is none, ranges beyond the end.
inline constexpr std::string_view kInvalid = "org.thaw.pager1.Error.SourceInvalid";

// Every error name with the errno it stands for; register_bus_errors() takes it.
inline constexpr std::array kErrors{
    BusErrorName{kUnreachable, EHOSTUNREACH},
    BusErrorName{kTimeout, ETIMEDOUT},
    BusErrorName{kReset, ECONNRESET},
    BusErrorName{kRefused, EREMOTEIO},
    BusErrorName{kRange, ERANGE},
    BusErrorName{kShort, ENODATA},
    BusErrorName{kChanged, ESTALE},
    BusErrorName{kTls, EKEYREJECTED},
    BusErrorName{kCredentials, EACCES},
    BusErrorName{kProtocol, EPROTO},
    BusErrorName{kRead, EIO},
    BusErrorName{kTarget, EIO},
    BusErrorName{kCanceled, ECANCELED},
    BusErrorName{kInvalid, EINVAL},
};

} // namespace thaw::source_error
