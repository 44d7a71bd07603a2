// SPDX-License-Identifier: MIT
#include "fetch/fetch_client.hpp"

#include "api/source_errors.hpp"
#include "core/scm.hpp"
#include "event/priorities.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

namespace thaw::fetch {

using protocol::FetchMessage;
using protocol::FetchType;

namespace {

// Between two attempts to reach thaw-fetchd: doubled each time.
constexpr Microseconds kFirstDelay = 50 * kUsecPerMsec;
constexpr unsigned kMostDoublings = 4;
// Messages handled before other sources of the loop get their turn.
constexpr int kMessagesPerTurn = 64;

Result<Fd> duplicate(int borrowed) {
    Fd copy(::fcntl(borrowed, F_DUPFD_CLOEXEC, 3));
    if (!copy) return fail_errno(errno, "duplicate descriptor {}", borrowed);
    return copy;
}

FetchEnd ended(std::string_view name, int errno_value, std::string text, bool retryable) {
    return {
        .result = std::unexpected(Error(name, errno_value, std::move(text))),
        .retryable = retryable,
    };
}

FetchEnd end_of(FetchMessage& message) {
    if (message.type == FetchType::Done)
        return {.tries = message.tries, .identity = std::move(message.identity)};
    auto end = ended(
        protocol::fetch_error_name(message.error), message.errno_value, std::move(message.text),
        message.retryable
    );
    end.tries = message.tries;
    return end;
}

} // namespace

Result<std::unique_ptr<FetchClient>> FetchClient::create(EventLoop& loop, std::string socket_path) {
    std::unique_ptr<FetchClient> client(new FetchClient(loop, std::move(socket_path)));
    THAW_CHECK(client->init());
    return client;
}

FetchClient::~FetchClient() = default;

Result<> FetchClient::init() {
    THAW_TRY(pump_, loop_.add_timer(0, [this] { pump(); }, "fetch-client", priority::kNotify));
    pump_.enable(false);
    // Time to connect again, or nobody wanted anything for a while.
    const auto on_timer = [this] {
        if (requests_.empty()) {
            io_.reset();
            socket_.reset();
        } else {
            pump();
        }
    };
    THAW_TRY(timer_, loop_.add_timer(0, on_timer, "fetch-client-timer", priority::kTimer));
    timer_.enable(false);
    return {};
}

Result<std::uint64_t>
FetchClient::fetch(const FetchRequest& request, OnProgress on_progress, OnEnd on_end) {
    if (request.url.empty() != (request.source >= 0) || request.length == 0 ||
        request.offset > request.identity.length ||
        request.length > request.identity.length - request.offset)
        return fail_named(source_error::kInvalid, EINVAL, "a fetch that makes no sense");
    Request added;
    added.message.type = FetchType::Fetch;
    added.message.url = request.url;
    added.message.identity = request.identity;
    THAW_TRY(added.message.target, duplicate(request.target));
    if (request.source >= 0) {
        THAW_TRY(added.message.source, duplicate(request.source));
    }
    added.offset = request.offset;
    added.length = request.length;
    added.target_offset = request.target_offset;
    added.on_progress = std::move(on_progress);
    added.on_end = std::move(on_end);
    return add(std::move(added));
}

Result<std::uint64_t> FetchClient::probe(const std::string& url, OnEnd on_end) {
    Request added;
    added.message.type = FetchType::Probe;
    added.message.url = url;
    added.on_end = std::move(on_end);
    return add(std::move(added));
}

Result<std::uint64_t> FetchClient::put(
    const std::string& url, int source, std::uint64_t length, OnProgress on_progress, OnEnd on_end
) {
    Request added;
    added.message.type = FetchType::Put;
    added.message.url = url;
    added.message.length = length;
    THAW_TRY(added.message.source, duplicate(source));
    added.length = length;
    added.on_progress = std::move(on_progress);
    added.on_end = std::move(on_end);
    return add(std::move(added));
}

// What cannot be encoded is refused here, so that sending cannot fail for it later.
Result<std::uint64_t> FetchClient::add(Request request) {
    const auto id = next_id_++;
    request.message.id = id;
    if (auto tried = encode_fetch(request.message); !tried)
        return fail_named(source_error::kInvalid, EINVAL, "{}", tried.error().message());
    THAW_CHECK(pump_.rearm(0));
    requests_.emplace(id, std::move(request));
    waiting_.push_back(id);
    return id;
}

void FetchClient::cancel(std::uint64_t id) {
    const auto found = requests_.find(id);
    if (found == requests_.end() || found->second.canceled) return;
    found->second.canceled = true;
    cancels_.push_back(id);
    (void)pump_.rearm(0);
}

// Brings the connection and the queues forward as far as they go without waiting.
void FetchClient::pump() {
    // Canceled before thaw-fetchd has heard of it: nothing to be told.
    const auto unsent = [this](std::uint64_t id) {
        const auto found = requests_.find(id);
        return found != requests_.end() && !found->second.sent;
    };
    for (auto at = cancels_.begin(); at != cancels_.end();) {
        const auto id = *at;
        if (!unsent(id)) {
            ++at;
            continue;
        }
        cancels_.erase(at);
        std::erase(waiting_, id);
        finish(id, ended(source_error::kCanceled, ECANCELED, "the transfer was canceled", true));
        at = cancels_.begin(); // the callback may have canceled others
    }
    if (requests_.empty()) return;
    if (!socket_) {
        if (auto connected = connect(); !connected) return lost(connected.error().message());
    }
    auto all_sent = send_all();
    if (!all_sent) return lost(all_sent.error().message());
    const std::uint32_t wanted = *all_sent ? EPOLLIN : EPOLLIN | EPOLLOUT;
    if (auto set = io_.set_io_events(wanted); !set) lost(set.error().message());
}

Result<> FetchClient::connect() {
    THAW_TRY(Fd socket, connect_unix(path_, SOCK_SEQPACKET, true));
    THAW_TRY(
        io_, loop_.add_io(
                 socket.get(), EPOLLIN, [this](std::uint32_t events) { on_io(events); },
                 "fetch-client-socket", priority::kNotify
             )
    );
    socket_ = std::move(socket);
    return {};
}

// False when the socket is full.
Result<bool> FetchClient::send_all() {
    while (!cancels_.empty()) {
        FetchMessage message;
        message.type = FetchType::Cancel;
        message.id = cancels_.front();
        if (requests_.contains(message.id)) {
            THAW_TRY(const bool sent, send_one(message));
            if (!sent) return false;
        }
        cancels_.pop_front();
    }
    while (!waiting_.empty() && sent_ < kMostSent) {
        auto& request = requests_.at(waiting_.front());
        if (request.message.type == FetchType::Fetch) {
            request.base = request.landed;
            request.message.offset = request.offset + request.landed;
            request.message.length = request.length - request.landed;
            request.message.target_offset = request.target_offset + request.landed;
        }
        THAW_TRY(const bool sent, send_one(request.message));
        if (!sent) return false;
        request.sent = true;
        ++sent_;
        waiting_.pop_front();
    }
    return true;
}

Result<bool> FetchClient::send_one(const FetchMessage& message) {
    THAW_TRY(const auto encoded, encode_fetch(message));
    auto sent = send_message(socket_.get(), encoded.data, encoded.fds);
    if (sent) return true;
    if (sent.error().code() == EAGAIN) return false;
    return std::unexpected(std::move(sent).error());
}

void FetchClient::on_io(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) (void)pump_.rearm(0);
    for (int i = 0; i < kMessagesPerTurn && socket_; ++i) {
        auto message = protocol::receive_fetch(socket_.get());
        if (!message && message.error().code() == EAGAIN) return;
        if (!message) return lost(message.error().message());
        failed_connects_ = 0;
        if (auto handled = handle(std::move(*message)); !handled)
            return lost(handled.error().message());
    }
}

Result<> FetchClient::handle(FetchMessage message) {
    const auto found = requests_.find(message.id);
    if (found == requests_.end() || !found->second.sent)
        return fail(EBADMSG, "thaw-fetchd speaks of a request that it does not have");
    auto& request = found->second;
    const auto landed = request.base + message.landed;
    const bool fetches = request.message.type == FetchType::Fetch;
    if (fetches && (message.landed > request.length - request.base || landed < request.landed))
        return fail(EBADMSG, "thaw-fetchd reports progress that cannot be");
    if (fetches) request.landed = landed;
    if (message.type == FetchType::Progress) {
        // The callback may cancel; the request itself stays until its end.
        if (request.on_progress) request.on_progress(landed);
        return {};
    }
    if (message.type != FetchType::Done && message.type != FetchType::Failed)
        return fail(EBADMSG, "thaw-fetchd sent a client's message");
    if (message.type == FetchType::Done && fetches && landed != request.length)
        return fail(EBADMSG, "thaw-fetchd says done, and it is not");
    --sent_;
    finish(message.id, end_of(message));
    if (!waiting_.empty()) THAW_CHECK(pump_.rearm(0));
    return {};
}

// The connection has ended, or cannot be made: ask for the rest again, some times.
void FetchClient::lost(const std::string& why) {
    io_.reset();
    socket_.reset();
    cancels_.clear();
    ++deaths_;
    std::vector<std::uint64_t> given_up;
    std::vector<std::uint64_t> again;
    for (auto& [id, request] : requests_) {
        const bool connected = sent_ > 0;
        if (request.sent || !connected) ++request.deaths;
        if (!request.sent) continue;
        request.sent = false;
        again.push_back(id);
    }
    sent_ = 0;
    waiting_.insert(waiting_.begin(), again.begin(), again.end());
    for (const auto& [id, request] : requests_)
        if (request.canceled || request.deaths >= kMostDeaths || is_complete(request))
            given_up.push_back(id);
    const auto delay = kFirstDelay << std::min(failed_connects_++, kMostDoublings);
    (void)timer_.rearm(delay);
    for (const auto id : given_up) {
        const auto found = requests_.find(id);
        if (found == requests_.end()) continue;
        std::erase(waiting_, id);
        const auto& request = found->second;
        if (is_complete(request))
            finish(id, {});
        else if (request.canceled)
            finish(
                id, ended(source_error::kCanceled, ECANCELED, "the transfer was canceled", true)
            );
        else
            finish(
                id, ended(
                        source_error::kUnreachable, EHOSTUNREACH,
                        fmt::format("thaw-fetchd cannot be reached: {}", why), true
                    )
            );
    }
}

bool FetchClient::is_complete(const Request& request) {
    return request.message.type == FetchType::Fetch && request.landed == request.length;
}

void FetchClient::finish(std::uint64_t id, FetchEnd end) {
    auto request = requests_.extract(id);
    end.landed = request.mapped().landed;
    if (requests_.empty()) (void)timer_.rearm(kIdle);
    if (request.mapped().on_end) request.mapped().on_end(std::move(end));
}

} // namespace thaw::fetch
