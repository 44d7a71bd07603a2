// SPDX-License-Identifier: MIT
#include "lease.hpp"

#include "api/diskguard1.hpp"
#include "bus/errors.hpp"
#include "config/json.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"

#include <nlohmann/json.hpp>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <utility>

namespace thaw::diskguard {

namespace {

constexpr std::string_view kSuffix = ".lease";
constexpr std::size_t kIdBytes = 8;
constexpr std::size_t kMostRecord = 4096;

Result<std::string> random_id() {
    std::array<std::uint8_t, kIdBytes> bytes{};
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return fail_errno(errno, "make a random id");
    return hex_encode(bytes.data(), bytes.size());
}

bool has_hung_up(int fd) {
    pollfd entry{.fd = fd, .events = 0, .revents = 0};
    return ::poll(&entry, 1, 0) == 1 && (entry.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

// The record stays in the queue: the next guardian reads it again.
Result<LeaseRecord> peek_record(int fd) {
    std::array<char, kMostRecord> buffer{};
    const auto size = ::recv(fd, buffer.data(), buffer.size(), MSG_PEEK | MSG_DONTWAIT);
    if (size < 0) return fail_errno(errno, "read the record of a lease");
    return parse_lease(std::string_view(buffer.data(), static_cast<std::size_t>(size)));
}

} // namespace

std::string format_lease(const LeaseRecord& record) {
    const nlohmann::json value{
        {"id", record.id},       {"volume", record.volume}, {"bytes", record.bytes},
        {"who", record.who},     {"why", record.why},       {"uid", record.uid},
        {"since", record.since},
    };
    return json_dump(value);
}

Result<LeaseRecord> parse_lease(std::string_view text) {
    THAW_TRY(const auto document, JsonDocument::parse(text));
    const auto root = document.root();
    LeaseRecord record;
    THAW_TRY(record.id, root.string("id"));
    THAW_TRY(record.volume, root.string("volume"));
    THAW_TRY(record.bytes, root.unsigned_number("bytes"));
    THAW_TRY(record.who, root.string("who"));
    THAW_TRY(record.why, root.string("why"));
    THAW_TRY(const auto uid, root.unsigned_number("uid"));
    THAW_TRY(record.since, root.unsigned_number("since"));
    if (uid > UINT32_MAX) return fail(EBADMSG, "uid: out of range");
    record.uid = static_cast<uid_t>(uid);
    const auto id = hex_decode(record.id);
    if (!id || id->size() != kIdBytes) return fail(EBADMSG, "id: not one of a lease");
    return record;
}

std::string stored_lease_name(std::string_view id) {
    return fmt::format("{}{}", id, kSuffix);
}

LeaseBook::LeaseBook(
    EventLoop& loop, FdStore& store, std::size_t limit,
    std::function<void(const LeaseRecord&)> closed
)
    : loop_(loop), store_(store), limit_(limit), closed_(std::move(closed)) {}

void LeaseBook::adopt(std::vector<NamedFd> stored) {
    for (auto& [name, fd] : stored) {
        auto record = peek_record(fd.get());
        const bool ours = record && stored_lease_name(record->id) == name;
        if (!ours || has_hung_up(fd.get()) || leases_.contains(record->id)) {
            store_.remove(name);
            continue;
        }
        if (auto kept = keep(std::move(*record), std::move(fd)); !kept)
            log_error("a lease cannot be watched: {}", kept.error().message());
    }
}

Result<> LeaseBook::keep(LeaseRecord record, Fd ours) {
    const auto id = record.id;
    THAW_TRY(
        auto hangup, loop_.add_io(
                         ours.get(), EPOLLHUP, [this, id](std::uint32_t) { on_hangup(id); },
                         "lease", priority::kNotify
                     )
    );
    leases_.emplace(id, Lease{std::move(record), std::move(ours), std::move(hangup)});
    return {};
}

Result<Fd> LeaseBook::add(LeaseRecord& record) {
    if (leases_.size() >= limit_)
        return fail_named(
            diskguard1::error::kTooManyLeases, ENFILE, "{} leases, MaxLeases= is reached",
            leases_.size()
        );
    THAW_TRY(record.id, random_id());
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
        return fail_errno(errno, "make a socket pair");
    Fd ours(ends[0]);
    Fd theirs(ends[1]);
    const auto text = format_lease(record);
    if (text.size() > kMostRecord) return fail(EMSGSIZE, "the lease's texts are too long");
    if (::send(theirs.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0)
        return fail_errno(errno, "write the record of a lease");
    // The owner can only close it.
    if (::shutdown(theirs.get(), SHUT_WR) != 0) return fail_errno(errno, "seal a lease");
    const auto name = stored_lease_name(record.id);
    if (auto stored = store_.push(name, ours.get()); !stored)
        return std::unexpected(
            std::move(stored).error().with_bus_name(diskguard1::error::kTooManyLeases)
        );
    if (auto kept = keep(record, std::move(ours)); !kept) {
        store_.remove(name);
        return std::unexpected(std::move(kept).error());
    }
    return theirs;
}

void LeaseBook::drop(const std::string& id) {
    if (leases_.erase(id) > 0) store_.remove(stored_lease_name(id));
}

void LeaseBook::on_hangup(const std::string& id) {
    auto lease = leases_.extract(id);
    if (!lease) return;
    store_.remove(stored_lease_name(id));
    closed_(lease.mapped().record);
}

std::uint64_t LeaseBook::promised(std::string_view volume) const {
    std::uint64_t sum = 0;
    for (const auto& [id, lease] : leases_)
        if (lease.record.volume == volume) {
            const auto added = sum + lease.record.bytes;
            sum = added < sum ? UINT64_MAX : added;
        }
    return sum;
}

std::vector<LeaseRecord> LeaseBook::list() const {
    std::vector<LeaseRecord> records;
    records.reserve(leases_.size());
    for (const auto& [id, lease] : leases_)
        records.push_back(lease.record);
    return records;
}

} // namespace thaw::diskguard
