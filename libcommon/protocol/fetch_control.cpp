// SPDX-License-Identifier: MIT
#include "protocol/fetch_control.hpp"

#include "api/source_errors.hpp"
#include "core/scm.hpp"

#include <array>
#include <cstring>
#include <limits>

namespace thaw::protocol {

namespace {

struct FetchHeader {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t type;
    std::uint32_t size; // of the whole message
    std::uint32_t fd_count;
    std::uint64_t id;
};
static_assert(sizeof(FetchHeader) == 24);

class Writer {
public:
    template <class T>
    void number(T value) {
        const auto* bytes = reinterpret_cast<const std::byte*>(&value);
        data_.insert(data_.end(), bytes, bytes + sizeof value);
    }
    Result<> text(const std::string& value, std::size_t limit, const char* what) {
        if (value.size() > limit)
            return fail(EMSGSIZE, "{} of {} bytes is too long", what, value.size());
        number(static_cast<std::uint16_t>(value.size()));
        const auto* bytes = reinterpret_cast<const std::byte*>(value.data());
        data_.insert(data_.end(), bytes, bytes + value.size());
        return {};
    }
    std::vector<std::byte>& data() { return data_; }

private:
    std::vector<std::byte> data_;
};

class Reader {
public:
    explicit Reader(std::span<const std::byte> data) : left_(data) {}
    template <class T>
    Result<> number(T& value) {
        if (left_.size() < sizeof value) return fail(EBADMSG, "fetch message is cut");
        std::memcpy(&value, left_.data(), sizeof value);
        left_ = left_.subspan(sizeof value);
        return {};
    }
    // Printable ASCII and what is above it: nothing that ends a header line or a log entry.
    Result<> text(std::string& value, std::size_t limit, const char* what) {
        std::uint16_t size = 0;
        THAW_CHECK(number(size));
        if (size > limit || size > left_.size())
            return fail(EBADMSG, "fetch message: {} has a bad length", what);
        value.assign(reinterpret_cast<const char*>(left_.data()), size);
        left_ = left_.subspan(size);
        for (const char c : value)
            if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
                return fail(EBADMSG, "fetch message: {} holds control characters", what);
        return {};
    }
    Result<> end() const {
        if (left_.empty()) return {};
        return fail(EBADMSG, "fetch message is {} bytes too long", left_.size());
    }

private:
    std::span<const std::byte> left_;
};

Result<> write_identity(Writer& writer, const SourceIdentity& identity) {
    writer.number(identity.length);
    THAW_CHECK(writer.text(identity.etag, kFetchMaxTag, "ETag"));
    return writer.text(identity.last_modified, kFetchMaxTag, "Last-Modified");
}

Result<> read_identity(Reader& reader, SourceIdentity& identity) {
    THAW_CHECK(reader.number(identity.length));
    THAW_CHECK(reader.text(identity.etag, kFetchMaxTag, "ETag"));
    return reader.text(identity.last_modified, kFetchMaxTag, "Last-Modified");
}

Result<> write_body(Writer& writer, const FetchMessage& message) {
    switch (message.type) {
    case FetchType::Probe:
        return writer.text(message.url, kFetchMaxUrl, "URL");
    case FetchType::Fetch:
        THAW_CHECK(writer.text(message.url, kFetchMaxUrl, "URL"));
        writer.number(message.offset);
        writer.number(message.length);
        writer.number(message.target_offset);
        return write_identity(writer, message.identity);
    case FetchType::Put:
        writer.number(message.length);
        return writer.text(message.url, kFetchMaxUrl, "URL");
    case FetchType::Cancel:
        return {};
    case FetchType::Progress:
        writer.number(message.landed);
        return {};
    case FetchType::Done:
        writer.number(message.landed);
        writer.number(message.tries);
        return write_identity(writer, message.identity);
    case FetchType::Failed:
        writer.number(message.landed);
        writer.number(message.tries);
        writer.number(static_cast<std::uint32_t>(message.error));
        writer.number(message.errno_value);
        writer.number(static_cast<std::uint32_t>(message.retryable));
        return writer.text(message.text, kFetchMaxText, "error text");
    }
    return fail(EINVAL, "fetch message of unknown type");
}

Result<> read_failed(Reader& reader, FetchMessage& message) {
    std::uint32_t error = 0;
    std::uint32_t retryable = 0;
    THAW_CHECK(reader.number(message.landed));
    THAW_CHECK(reader.number(message.tries));
    THAW_CHECK(reader.number(error));
    THAW_CHECK(reader.number(message.errno_value));
    THAW_CHECK(reader.number(retryable));
    if (error == 0 || error > kFetchErrorMax || retryable > 1 || message.errno_value < 0)
        return fail(EBADMSG, "fetch message: values out of range");
    message.error = static_cast<FetchError>(error);
    message.retryable = retryable != 0;
    return reader.text(message.text, kFetchMaxText, "error text");
}

// The range fits, and its end can be computed.
Result<> check_fetch(const FetchMessage& message) {
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const auto& length = message.identity.length;
    if (length > kMost || message.offset > length || message.length > length - message.offset ||
        message.length == 0 || message.target_offset > kMost - message.length)
        return fail(EBADMSG, "fetch message: the range lies outside of the object");
    return {};
}

Result<> read_body(Reader& reader, FetchMessage& message) {
    switch (message.type) {
    case FetchType::Probe:
        return reader.text(message.url, kFetchMaxUrl, "URL");
    case FetchType::Fetch:
        THAW_CHECK(reader.text(message.url, kFetchMaxUrl, "URL"));
        THAW_CHECK(reader.number(message.offset));
        THAW_CHECK(reader.number(message.length));
        THAW_CHECK(reader.number(message.target_offset));
        THAW_CHECK(read_identity(reader, message.identity));
        return check_fetch(message);
    case FetchType::Put:
        THAW_CHECK(reader.number(message.length));
        return reader.text(message.url, kFetchMaxUrl, "URL");
    case FetchType::Cancel:
        return {};
    case FetchType::Progress:
        return reader.number(message.landed);
    case FetchType::Done:
        THAW_CHECK(reader.number(message.landed));
        THAW_CHECK(reader.number(message.tries));
        return read_identity(reader, message.identity);
    case FetchType::Failed:
        return read_failed(reader, message);
    }
    return fail(EBADMSG, "fetch message of unknown type");
}

// Fetch: target and, from a file, the source; Put: the source; nothing else.
Result<> take_fds(FetchMessage& message, std::vector<Fd>& fds) {
    std::size_t wanted = 0;
    if (message.type == FetchType::Fetch) wanted = message.url.empty() ? 2 : 1;
    if (message.type == FetchType::Put) wanted = 1;
    if (fds.size() != wanted)
        return fail(EBADMSG, "fetch message with {} descriptors instead of {}", fds.size(), wanted);
    if (message.type == FetchType::Put) message.source = std::move(fds[0]);
    if (message.type != FetchType::Fetch) return {};
    message.target = std::move(fds[0]);
    if (wanted == 2) message.source = std::move(fds[1]);
    return {};
}

} // namespace

std::string_view fetch_error_name(FetchError error) {
    switch (error) {
    case FetchError::Unreachable:
        return source_error::kUnreachable;
    case FetchError::Timeout:
        return source_error::kTimeout;
    case FetchError::Reset:
        return source_error::kReset;
    case FetchError::Refused:
        return source_error::kRefused;
    case FetchError::Range:
        return source_error::kRange;
    case FetchError::Short:
        return source_error::kShort;
    case FetchError::Changed:
        return source_error::kChanged;
    case FetchError::Tls:
        return source_error::kTls;
    case FetchError::Credentials:
        return source_error::kCredentials;
    case FetchError::Protocol:
        return source_error::kProtocol;
    case FetchError::Read:
        return source_error::kRead;
    case FetchError::Target:
        return source_error::kTarget;
    case FetchError::Canceled:
        return source_error::kCanceled;
    case FetchError::Invalid:
        return source_error::kInvalid;
    }
    return source_error::kInvalid;
}

Result<EncodedFetch> encode_fetch(const FetchMessage& message) {
    Writer writer;
    writer.number(FetchHeader{});
    THAW_CHECK(write_body(writer, message));
    EncodedFetch encoded;
    if (message.target) encoded.fds.push_back(message.target.get());
    if (message.source) encoded.fds.push_back(message.source.get());
    encoded.data = std::move(writer.data());
    const FetchHeader header{
        .magic = kFetchMagic,
        .version = kFetchVersion,
        .type = static_cast<std::uint16_t>(message.type),
        .size = static_cast<std::uint32_t>(encoded.data.size()),
        .fd_count = static_cast<std::uint32_t>(encoded.fds.size()),
        .id = message.id,
    };
    std::memcpy(encoded.data.data(), &header, sizeof header);
    return encoded;
}

Result<FetchMessage> decode_fetch(std::span<const std::byte> data, std::vector<Fd> fds) {
    Reader reader(data);
    FetchHeader header{};
    THAW_CHECK(reader.number(header));
    if (header.magic != kFetchMagic) return fail(EBADMSG, "fetch message: wrong magic number");
    if (header.version != kFetchVersion)
        return fail(EPROTONOSUPPORT, "fetch message of version {}", header.version);
    if (header.size != data.size() || header.fd_count != fds.size())
        return fail(EBADMSG, "fetch message: size or descriptor count does not match");
    FetchMessage message;
    message.type = static_cast<FetchType>(header.type);
    message.id = header.id;
    THAW_CHECK(read_body(reader, message));
    THAW_CHECK(reader.end());
    THAW_CHECK(take_fds(message, fds));
    return message;
}

Result<FetchMessage> receive_fetch(int socket) {
    std::array<std::byte, kFetchMaxMessage> buffer;
    THAW_TRY(ReceivedMessage received, receive_message(socket, buffer, kFetchMaxFds));
    if (received.end_of_stream) return fail(ECONNRESET, "the connection to thaw-fetchd has ended");
    if (received.data_truncated || received.control_truncated)
        return fail(EBADMSG, "fetch message is too long");
    return decode_fetch(std::span(buffer).first(received.size), std::move(received.fds));
}

} // namespace thaw::protocol
