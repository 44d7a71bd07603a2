// SPDX-License-Identifier: MIT
#include "shares_client.hpp"

#include "api/shares1.hpp"
#include "bus/properties.hpp"

#include <string_view>

namespace thaw::restore {

namespace {

// A hardened unit, perhaps a crowd of them, and the supervisor's own limit of 15 s.
constexpr Microseconds kAddLimit = 25 * kUsecPerSec;
constexpr Microseconds kRemoveLimit = 20 * kUsecPerSec;
constexpr Microseconds kReadLimit = 5 * kUsecPerSec;
constexpr const char* kProperties = "org.freedesktop.DBus.Properties";

struct Entry {
    std::string vm;
    std::string tag;
    std::string state;
    std::string path;
};

Result<std::vector<Entry>> parse_list(Result<BusMessage> reply) {
    if (!reply) return std::unexpected(std::move(reply).error());
    std::vector<Entry> entries;
    THAW_CHECK(reply->enter_container('a', "(ssssso)"));
    while (true) {
        THAW_TRY(const bool more, reply->enter_container('r', "ssssso"));
        if (!more) return entries;
        const char *vm = nullptr, *tag = nullptr, *source = nullptr, *state = nullptr;
        const char *level = nullptr, *path = nullptr;
        THAW_CHECK(reply->read("ssssso", &vm, &tag, &source, &state, &level, &path));
        THAW_CHECK(reply->exit_container());
        entries.push_back({vm, tag, state, path});
    }
}

Result<BusMessage> manager_call(const Bus& bus, const char* member) {
    return bus.new_call(shares1::kBusName, shares1::kPath, shares1::kManagerInterface, member);
}

// Nobody is started only to be asked what he does not have.
Result<BusMessage> list_call(const Bus& bus) {
    auto message = manager_call(bus, "ListShares");
    if (message) sd_bus_message_set_auto_start(message->get(), 0);
    return message;
}

class Adding : public SharesOperation {
public:
    Adding(
        Bus& bus, std::string vm, std::string unit, std::vector<ShareRequest> requests,
        std::function<void(Result<>)> handler
    )
        : bus_(bus), vm_(std::move(vm)), unit_(std::move(unit)), requests_(std::move(requests)),
          handler_(std::move(handler)) {
        next();
    }

private:
    void next() {
        const auto& request = requests_[at_];
        auto message = manager_call(bus_, "AddShare");
        if (message)
            if (auto filled = append_share_request(*message, vm_, unit_, request); !filled)
                message = std::unexpected(std::move(filled).error());
        call_ = bus_.call(
            std::move(message), [this](const Result<BusMessage>& reply) { on_reply(reply); },
            kAddLimit
        );
    }

    void on_reply(const Result<BusMessage>& reply) {
        const auto handler = handler_;
        if (!reply) {
            auto failure = Error(reply.error());
            handler(std::unexpected(
                std::move(failure).with_context(fmt::format("share \"{}\"", requests_[at_].tag))
            ));
            return;
        }
        if (++at_ < requests_.size()) return next();
        handler({}); // `this` may be gone now
    }

    Bus& bus_;
    std::string vm_;
    std::string unit_;
    std::vector<ShareRequest> requests_;
    std::size_t at_ = 0;
    std::function<void(Result<>)> handler_;
    BusSlot call_;
};

class Removing : public SharesOperation {
public:
    Removing(Bus& bus, std::string vm, std::function<void(Result<>)> handler)
        : bus_(bus), vm_(std::move(vm)), handler_(std::move(handler)) {
        call_ = bus_.call(
            manager_call(bus_, "ListShares"),
            [this](Result<BusMessage> reply) { on_list(parse_list(std::move(reply))); }, kReadLimit
        );
    }

private:
    void on_list(Result<std::vector<Entry>> entries) {
        // Where no supervisor is installed there are no shares.
        if (!entries && entries.error().code() == EHOSTUNREACH) return done({});
        if (!entries) return done(std::unexpected(std::move(entries).error()));
        for (auto& entry : *entries)
            if (entry.vm == vm_) tags_.push_back(std::move(entry.tag));
        next();
    }

    void next() {
        if (tags_.empty()) return done(std::move(result_));
        auto message = manager_call(bus_, "RemoveShare");
        if (message)
            if (auto filled = message->append(
                    "sst", vm_.c_str(), tags_.back().c_str(), shares1::kRemoveForce
                );
                !filled)
                message = std::unexpected(std::move(filled).error());
        tags_.pop_back();
        call_ = bus_.call(
            std::move(message),
            [this](Result<BusMessage> reply) {
                const bool gone = reply || reply.error().bus_name() == shares1::error::kNoSuchShare;
                // The others go all the same.
                if (!gone) result_ = std::unexpected(std::move(reply).error());
                next();
            },
            kRemoveLimit
        );
    }

    void done(Result<> result) {
        const auto handler = handler_;
        handler(std::move(result)); // `this` may be gone now
    }

    Bus& bus_;
    std::string vm_;
    std::function<void(Result<>)> handler_;
    std::vector<std::string> tags_;
    Result<> result_;
    BusSlot call_;
};

// The list, then the properties of each share that failed.
class Looking : public SharesOperation {
public:
    using Handler = std::function<void(Result<std::vector<LostShare>>)>;
    Looking(Bus& bus, Handler handler) : bus_(bus), handler_(std::move(handler)) {
        call_ = bus_.call(
            list_call(bus_),
            [this](Result<BusMessage> reply) { on_list(parse_list(std::move(reply))); }, kReadLimit
        );
    }

private:
    void on_list(Result<std::vector<Entry>> entries) {
        if (!entries) return done(std::unexpected(std::move(entries).error()));
        for (auto& entry : *entries)
            if (entry.state == "failed") failed_.push_back(std::move(entry));
        next();
    }

    void next() {
        if (failed_.empty()) return done(std::move(lost_));
        auto message = bus_.new_call(shares1::kBusName, failed_.back().path, kProperties, "GetAll");
        if (message)
            if (auto filled = message->append("s", shares1::kShareInterface); !filled)
                message = std::unexpected(std::move(filled).error());
        call_ = bus_.call(
            std::move(message),
            [this](Result<BusMessage> reply) {
                // One that was removed meanwhile is nobody's concern any more.
                if (reply)
                    if (auto share = parse(*reply)) lost_.push_back(std::move(*share));
                failed_.pop_back();
                next();
            },
            kReadLimit
        );
    }

    Result<LostShare> parse(BusMessage& message) const {
        LostShare share{.vm = failed_.back().vm, .tag = failed_.back().tag};
        std::string name, text;
        auto walked = for_each_property(message, [&](std::string_view key) -> Result<> {
            if (key != "ErrorName" && key != "ErrorMessage" && key != "OnLoss")
                return message.skip("v");
            const char* value = nullptr;
            THAW_CHECK(message.read("v", "s", &value));
            if (key == "ErrorName") name = value;
            if (key == "ErrorMessage") text = value;
            if (key == "OnLoss") share.stops_vm = value == std::string_view("stop");
            return {};
        });
        if (!walked) return std::unexpected(std::move(walked).error());
        share.message = fmt::format("{}: {}", name, text);
        return share;
    }

    void done(Result<std::vector<LostShare>> result) {
        const auto handler = handler_;
        handler(std::move(result)); // `this` may be gone now
    }

    Bus& bus_;
    Handler handler_;
    std::vector<Entry> failed_;
    std::vector<LostShare> lost_;
    BusSlot call_;
};

} // namespace

Result<> SharesClient::start(std::function<void()> changed) {
    register_bus_errors(shares1::kErrors);
    THAW_TRY(
        auto lost, bus_.match_rule(
                       fmt::format(
                           "type='signal',sender='{}',path_namespace='{}',interface='{}',"
                           "member='Lost'",
                           shares1::kBusName, shares1::kSharePrefix, shares1::kShareInterface
                       ),
                       [changed](BusMessage&) { changed(); }
                   )
    );
    matches_.push_back(std::move(lost));
    THAW_TRY(
        auto owner, bus_.watch_name(
                        shares1::kBusName,
                        [changed = std::move(changed)](bool owned) {
                            if (owned) changed();
                        }
                    )
    );
    matches_.push_back(std::move(owner));
    return {};
}

SharesHandle SharesClient::add_shares(
    const std::string& vm, const std::string& unit, std::vector<ShareRequest> requests,
    std::function<void(Result<>)> handler
) {
    THAW_INVARIANT(!requests.empty());
    return std::make_unique<Adding>(bus_, vm, unit, std::move(requests), std::move(handler));
}

SharesHandle
SharesClient::remove_shares(const std::string& vm, std::function<void(Result<>)> handler) {
    return std::make_unique<Removing>(bus_, vm, std::move(handler));
}

SharesHandle SharesClient::list_lost(std::function<void(Result<std::vector<LostShare>>)> handler) {
    return std::make_unique<Looking>(bus_, std::move(handler));
}

} // namespace thaw::restore
