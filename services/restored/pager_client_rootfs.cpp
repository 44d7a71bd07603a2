// SPDX-License-Identifier: MIT
// Root file systems that the broker serves from its cache.
#include "api/pager1.hpp"
#include "pager_call.hpp"

namespace thaw::restore {

namespace {

Result<> append_source(BusMessage& message, const RootfsServing& wanted) {
    const auto& remote = wanted.remote;
    THAW_CHECK(message.open_container('a', "{sh}"));
    THAW_CHECK(message.append("{sh}", "map", wanted.map_fd));
    if (remote.file_fd >= 0) THAW_CHECK(message.append("{sh}", "remote", remote.file_fd));
    THAW_CHECK(message.close_container());
    THAW_CHECK(message.open_container('a', "{sv}"));
    THAW_CHECK(message.append("{sv}", "Id", "s", wanted.id.c_str()));
    THAW_CHECK(message.append("{sv}", "ImageName", "s", wanted.image_name.c_str()));
    if (!remote.url.empty()) THAW_CHECK(message.append("{sv}", "Url", "s", remote.url.c_str()));
    THAW_CHECK(message.append("{sv}", "Length", "t", remote.identity.length));
    THAW_CHECK(message.append("{sv}", "ETag", "s", remote.identity.etag.c_str()));
    THAW_CHECK(message.append("{sv}", "Modified", "s", remote.identity.last_modified.c_str()));
    return message.close_container();
}

} // namespace

PagerHandle PagerClient::serve_rootfs(
    const RootfsServing& wanted, std::function<void(Result<std::string>)> handler
) {
    const auto make = [&]() -> Result<BusMessage> {
        THAW_TRY(
            auto message,
            bus_.new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "ServeRootfs")
        );
        THAW_CHECK(message.append("ss", wanted.vm.c_str(), wanted.unit.c_str()));
        THAW_CHECK(append_source(message, wanted));
        THAW_CHECK(message.append("t", std::uint64_t{0}));
        return message;
    };
    auto answered = [handler = std::move(handler)](Result<BusMessage> reply) {
        if (!reply) return handler(std::unexpected(std::move(reply).error()));
        const char* socket = nullptr;
        if (auto done = reply->read("s", &socket); !done)
            return handler(std::unexpected(std::move(done).error()));
        handler(std::string(socket));
    };
    return std::make_unique<PagerCall>(bus_, make(), std::move(answered), kPagerCreateLimit);
}

PagerHandle
PagerClient::release_rootfs(const std::string& vm, std::function<void(Result<>)> handler) {
    auto message =
        bus_.new_call(pager1::kBusName, pager1::kPath, pager1::kManagerInterface, "ReleaseRootfs");
    if (message)
        if (auto filled = message->append("st", vm.c_str(), std::uint64_t{0}); !filled)
            message = std::unexpected(std::move(filled).error());
    auto answered = [handler = std::move(handler)](Result<BusMessage> reply) {
        if (reply) return handler({});
        handler(std::unexpected(std::move(reply).error()));
    };
    return std::make_unique<PagerCall>(
        bus_, std::move(message), std::move(answered), kPagerCallLimit
    );
}

} // namespace thaw::restore
