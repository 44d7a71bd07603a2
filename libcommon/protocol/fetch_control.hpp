// SPDX-License-Identifier: MIT
#pragma once

// What thaw-fetchd and those who have it fetch say to each other on its socket (SOCK_SEQPACKET),
// one message per datagram. Both sides treat what they receive as hostile: sizes, type, version,
// lengths of texts and the number of descriptors are checked before anything is used.
//
//   client -> fetchd
//     Probe     what is behind a URL?                                         -> Done, Failed
//     Fetch     target [, source]   a range of a URL (or of the source file) into the target
//                                                               -> Progress..., Done or Failed
//     Put       source              the file's first bytes to a URL           -> Done, Failed
//     Cancel    gives a request up                                            -> Failed, or Done
//   fetchd -> client
//     Progress  so many bytes from the start of the range are written; only ever grows
//     Done      everything is
//     Failed    nothing more will be written
//
// A request carries all there is to know: fetchd keeps nothing between two of them, and one that
// dies takes along only what was under way. Once Done or Failed was received, and also once the
// connection has ended, nothing is written to the target of that request any more.

#include "core/error.hpp"
#include "core/fd.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace thaw::protocol {

inline constexpr const char* kFetchSocket = "/run/thaw/fetch/fetch.sock";
inline constexpr std::uint32_t kFetchMagic = 0x5448'4645; // "THFE"
inline constexpr std::uint16_t kFetchVersion = 1;
inline constexpr std::size_t kFetchMaxMessage = 8192; // bytes
inline constexpr std::size_t kFetchMaxFds = 2;
inline constexpr std::size_t kFetchMaxUrl = 2048;
inline constexpr std::size_t kFetchMaxTag = 512;   // of an ETag or a date
inline constexpr std::size_t kFetchMaxText = 1024; // of an error

enum class FetchType : std::uint16_t {
    Probe = 1,
    Fetch = 2,
    Put = 3,
    Cancel = 4,
    Progress = 16,
    Done = 17,
    Failed = 18,
};

// The object that a URL stands for. Pinned when an image is added; every later answer must match.
struct SourceIdentity {
    std::uint64_t length = 0;  // bytes
    std::string etag;          // as the server writes it, quotes included; may be empty
    std::string last_modified; // likewise; compared only when there is no ETag
    bool operator==(const SourceIdentity&) const = default;
};

// Why a request failed; fetch_error_name() has the names of api/source_errors.hpp.
enum class FetchError : std::uint32_t {
    Unreachable = 1,
    Timeout,
    Reset,
    Refused,
    Range,
    Short,
    Changed,
    Tls,
    Credentials,
    Protocol,
    Read,
    Target,
    Canceled,
    Invalid,
};
inline constexpr auto kFetchErrorMax = static_cast<std::uint32_t>(FetchError::Invalid);
std::string_view fetch_error_name(FetchError error);

// A message, in either direction. Members that do not belong to `type` keep their defaults.
struct FetchMessage {
    FetchType type{};
    std::uint64_t id = 0;            // the client's, unique among its requests under way
    std::string url;                 // Probe, Put; Fetch, unless a source came with it
    SourceIdentity identity;         // Fetch: pinned; Done: what there is now
    std::uint64_t offset = 0;        // Fetch: in the source
    std::uint64_t length = 0;        // Fetch, Put: bytes
    std::uint64_t target_offset = 0; // Fetch
    std::uint64_t landed = 0;        // Progress, Done, Failed
    std::uint32_t tries = 0;         // Done, Failed: how often the server was asked
    FetchError error{};              // Failed
    std::int32_t errno_value = 0;    // Failed
    bool retryable = false;          // Failed: may go well later
    std::string text;                // Failed: for people
    Fd target;                       // Fetch
    Fd source;                       // Put; Fetch from a file
};

// Ready for send_message(); `fds` are borrowed from the message.
struct EncodedFetch {
    std::vector<std::byte> data;
    std::vector<int> fds;
};
// EMSGSIZE when a text is longer than its limit.
Result<EncodedFetch> encode_fetch(const FetchMessage& message);
// Takes all descriptors over; those that do not fit the message are closed. EBADMSG names what is
// wrong, EPROTONOSUPPORT for another version.
Result<FetchMessage> decode_fetch(std::span<const std::byte> data, std::vector<Fd> fds);
// One message from the socket. EAGAIN when nothing is there, ECONNRESET when the peer is gone,
// EBADMSG for a bad one.
Result<FetchMessage> receive_fetch(int socket);

} // namespace thaw::protocol
