// SPDX-License-Identifier: MIT
#include "rootfs_source.hpp"

#include "api/pager1.hpp"
#include "config/json.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "core/text.hpp"
#include "create_request.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "sealed_memfd.hpp"
#include "session_socket.hpp"

#include <nlohmann/json.hpp>

#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace thaw::pagerd {

namespace {

// One server; another while it is being replaced, and strangers.
constexpr std::size_t kMostClients = 8;
constexpr Microseconds kCheckTimeout = 5 * kUsecPerSec;
// Of what is turned away the journal hears no more often.
constexpr Microseconds kTellAgain = 10 * kUsecPerSec;
constexpr std::size_t kLongestDescription = 4096;

Result<std::string> random_key() {
    std::array<std::uint8_t, 16> key{};
    if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size()))
        return fail_errno(errno, "make a random id");
    return hex_encode(key.data(), key.size());
}

Result<Fd> store_description(const RootfsDescription& what) {
    const std::string text = json_dump({
        {"vm", what.vm},
        {"unit", what.unit},
        {"id", what.id},
        {"image", what.image_name},
    });
    return make_sealed_memfd("thaw-rootfs", std::as_bytes(std::span(text)));
}

Result<RootfsDescription> load_description(int memfd) {
    THAW_TRY(const auto identity, identify(memfd));
    if (identity.size > kLongestDescription)
        return fail(EBADMSG, "description of a root file system: {} bytes", identity.size);
    std::string text(identity.size, '\0');
    THAW_CHECK(pread_exact(memfd, std::as_writable_bytes(std::span(text)), 0));
    THAW_TRY(const auto document, JsonDocument::parse(text));
    const JsonView root = document.root();
    RootfsDescription what;
    THAW_TRY(what.vm, root.string("vm"));
    THAW_TRY(what.unit, root.string("unit"));
    THAW_TRY(what.id, root.string("id"));
    THAW_TRY(what.image_name, root.string("image"));
    if (!is_valid_vm_name(what.vm) || !is_valid_vmm_unit(what.unit) ||
        (!what.image_name.empty() && !is_valid_image_name(what.image_name)))
        return fail(EBADMSG, "description of a root file system: names that are none");
    return what;
}

Result<> check_listener(int socket) {
    int type = 0;
    int listening = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        ::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 ||
        type != SOCK_SEQPACKET || listening == 0)
        return fail(EBADMSG, "what was kept is no listening socket");
    return set_nonblocking(socket, true);
}

} // namespace

RootfsSource::RootfsSource(
    Broker& broker, std::string key, RootfsDescription description, ChunkImage& image,
    protocol::ChunkUses uses, Fd listener
)
    : broker_(broker), key_(std::move(key)), description_(std::move(description)), image_(image),
      uses_(std::move(uses)), listener_(std::move(listener)) {
    broker_.chunks->attach(image_, *this);
}

RootfsSource::~RootfsSource() {
    broker_.chunks->detach(image_, *this);
}

Result<std::unique_ptr<RootfsSource>> RootfsSource::make(
    Broker& broker, std::string key, RootfsDescription description, ChunkImage& image, Fd listener
) {
    THAW_TRY(auto uses, protocol::ChunkUses::create(image.count()));
    std::unique_ptr<RootfsSource> source(new RootfsSource(
        broker, std::move(key), std::move(description), image, std::move(uses), std::move(listener)
    ));
    THAW_TRY(
        source->accept_, broker.loop.add_io(
                             source->listener_.get(), EPOLLIN,
                             [&self = *source](std::uint32_t) { self.on_connection(); },
                             "rootfs-socket", priority::kReconcile
                         )
    );
    return source;
}

Result<std::unique_ptr<RootfsSource>>
RootfsSource::create(Broker& broker, RootfsDescription description, ChunkImage& image) {
    THAW_TRY(auto key, random_key());
    THAW_TRY(auto listener, make_rootfs_socket(broker.config.runtime_directory, description.vm));
    const auto path = rootfs_socket_path(broker.config.runtime_directory, description.vm);
    auto source = make(broker, std::move(key), std::move(description), image, std::move(listener));
    if (!source) {
        ::unlink(path.c_str());
        return source;
    }
    if (auto kept = (*source)->keep(); !kept) {
        (*source)->release();
        return std::unexpected(std::move(kept).error().with_bus_name(pager1::error::kStoreFull));
    }
    return source;
}

Result<std::unique_ptr<RootfsSource>>
RootfsSource::adopt(Broker& broker, const std::string& key, const Fd& description, Fd listener) {
    THAW_TRY(auto what, load_description(description.get()));
    THAW_CHECK(check_listener(listener.get()));
    auto* image = broker.chunks->find(what.id);
    if (image == nullptr) {
        // Nobody listens there any more.
        ::unlink(rootfs_socket_path(broker.config.runtime_directory, what.vm).c_str());
        return fail(ENOENT, "{}: the cache of its root file system was not kept", what.vm);
    }
    return make(broker, key, std::move(what), *image, std::move(listener));
}

Result<> RootfsSource::keep() {
    THAW_TRY(const Fd description, store_description(description_));
    THAW_CHECK(broker_.store.push(stored_name(key_, FdRole::Rootfs), description.get()));
    return broker_.store.push(stored_name(key_, FdRole::RootfsListen), listener_.get());
}

void RootfsSource::release() {
    for (const FdRole role : {FdRole::Rootfs, FdRole::RootfsListen})
        broker_.store.remove(stored_name(key_, role));
    ::unlink(socket_path().c_str());
}

std::string RootfsSource::socket_path() const {
    return rootfs_socket_path(broker_.config.runtime_directory, description_.vm);
}

LogFields RootfsSource::log_fields() const {
    return {{"THAW_INSTANCE", description_.vm}, {"THAW_IMAGE", description_.image_name}};
}

void RootfsSource::on_connection() {
    Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    // EAGAIN, ECONNABORTED: whoever it was went away. One that is turned away dials in again.
    if (!connection || clients_.size() >= kMostClients) return;
    if (auto added = add_client(std::move(connection)); !added)
        log_warning(log_fields(), "{}: {}", description_.vm, added.error().message());
}

Result<> RootfsSource::add_client(Fd connection) {
    const auto number = next_client_++;
    Client client;
    THAW_TRY(
        client.check, PeerCheck::begin(
                          broker_.loop, broker_.systemd, connection.get(), description_.unit,
                          [this, number](const Result<Peer>& peer) { on_peer(number, peer); }
                      )
    );
    THAW_TRY(
        client.deadline,
        broker_.loop.add_timer(
            kCheckTimeout,
            [this, number] { drop(number, Error(ETIMEDOUT, "systemd did not say who it is")); },
            "rootfs-check", priority::kTimer
        )
    );
    client.connection = std::move(connection);
    clients_.emplace(number, std::move(client));
    return {};
}

void RootfsSource::on_peer(std::uint64_t number, const Result<Peer>& peer) {
    if (!peer) return drop(number, peer.error());
    if (auto greeted = greet(number); !greeted) drop(number, greeted.error());
}

Result<> RootfsSource::greet(std::uint64_t number) {
    Client& client = clients_.at(number);
    client.deadline.reset();
    protocol::ChunksMessage chunks;
    THAW_TRY(chunks.data, protocol::reopen_read_only(image_.files()->data.get()));
    THAW_TRY(chunks.map, protocol::reopen_read_only(image_.map().fd()));
    // Not a duplicate: its flags would be the broker's as well.
    THAW_TRY(chunks.index, protocol::reopen_read_only(image_.files()->index.get()));
    THAW_TRY(chunks.uses, uses_.duplicate());
    THAW_TRY(
        client.readable, broker_.loop.add_io(
                             client.connection.get(), EPOLLIN,
                             [this, number](std::uint32_t) { on_readable(number); },
                             "rootfs-client", priority::kReconcile
                         )
    );
    return protocol::send_control(client.connection.get(), protocol::encode(chunks));
}

void RootfsSource::on_readable(std::uint64_t number) {
    const auto message = protocol::receive_control(clients_.at(number).connection.get());
    if (!message) {
        if (message.error().code() != EAGAIN) drop(number, message.error());
        return;
    }
    if (message->type != protocol::ControlType::WantChunk)
        return drop(number, Error(EBADMSG, "a message that no server of a root file system sends"));
    broker_.chunks->want(image_, *this, message->want_chunk);
}

void RootfsSource::drop(std::uint64_t number, const Error& why) {
    clients_.erase(number);
    if (why.code() == ECONNRESET) return; // it has ended
    const auto now = now_monotonic();
    if (now < tell_again_) return;
    tell_again_ = now + kTellAgain;
    log_event(
        LogLevel::Warning, message_id::kRootfsClientRejected, log_fields(),
        "{}: a connection to read its root file system was ended: {}", description_.vm,
        why.message()
    );
}

// One whose buffer is full is not told: it asks again.
void RootfsSource::tell_all(const protocol::EncodedMessage& message) {
    for (const auto& [number, client] : clients_)
        if (client.readable) (void)protocol::send_control(client.connection.get(), message);
}

void RootfsSource::chunk_landed(std::uint32_t chunk) {
    tell_all(protocol::encode(protocol::ChunkLandedMessage{.chunk = chunk}));
}

void RootfsSource::chunk_failed(std::uint32_t chunk, int errno_value) {
    tell_all(
        protocol::encode(protocol::ChunkFailedMessage{.chunk = chunk, .errno_value = errno_value})
    );
}

} // namespace thaw::pagerd
