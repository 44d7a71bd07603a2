// SPDX-License-Identifier: MIT
// Bus names: watching who owns one, owning one.
#include "bus/bus_slot_state.hpp"

#include <optional>

namespace thaw {

Result<BusSlot> Bus::watch_name(const std::string& name, std::function<void(bool owned)> handler) {
    return watch_name_owner(
        name,
        [told = std::optional<bool>(),
         handler = std::move(handler)](const std::string& owner) mutable {
            const bool owned = !owner.empty();
            // A name handed over from one owner to the next stays owned.
            if (std::exchange(told, owned) != owned) handler(owned);
        }
    );
}

Result<BusSlot> Bus::watch_name_owner(
    const std::string& name, std::function<void(const std::string& owner)> handler
) {
    struct Watch {
        std::optional<std::string> last;
        std::function<void(const std::string&)> handler;
        void update(const std::string& owner) {
            if (last == owner) return;
            last = owner;
            handler(owner);
        }
    };
    auto watch = std::make_shared<Watch>();
    watch->handler = std::move(handler);
    auto state = std::make_shared<BusSlot::State>();

    // Match first, then ask: a change in between shows in both, never in neither.
    THAW_TRY(
        auto match,
        match_rule(
            fmt::format(
                "type='signal',sender='{}',path='{}',interface='{}',member='NameOwnerChanged',"
                "arg0='{}'",
                kDriver, kDriverPath, kDriver, name
            ),
            [watch](BusMessage& message) {
                const char *changed = nullptr, *before = nullptr, *after = nullptr;
                if (message.read("sss", &changed, &before, &after)) watch->update(after);
            }
        )
    );
    state->parts.push_back(std::move(match));

    auto question = new_call(kDriver, kDriverPath, kDriver, "GetNameOwner");
    if (question) THAW_CHECK(question->append("s", name.c_str()));
    state->parts.push_back(call(std::move(question), [watch](Result<BusMessage> reply) {
        const char* owner = nullptr;
        watch->update(reply && reply->read("s", &owner) ? owner : "");
    }));
    return BusSlot(std::move(state));
}

BusSlot Bus::request_name(const std::string& name, std::function<void(Result<>)> handler) {
    constexpr std::uint32_t kDoNotQueue = 4, kPrimaryOwner = 1, kAlreadyOwner = 4;
    auto question = new_call(kDriver, kDriverPath, kDriver, "RequestName");
    if (question)
        if (auto filled = question->append("su", name.c_str(), kDoNotQueue); !filled)
            question = std::unexpected(std::move(filled).error());
    return call(
        std::move(question),
        [name, handler = std::move(handler)](Result<BusMessage> reply) {
            if (!reply) {
                handler(std::unexpected(
                    std::move(reply).error().with_context(fmt::format("own bus name {}", name))
                ));
                return;
            }
            std::uint32_t answer = 0;
            auto done = reply->read("u", &answer);
            if (done && answer != kPrimaryOwner && answer != kAlreadyOwner)
                done = fail(EEXIST, "bus name {} belongs to somebody else", name);
            handler(std::move(done));
        }
    );
}

} // namespace thaw
