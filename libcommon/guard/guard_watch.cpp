// SPDX-License-Identifier: MIT
// GuardClient::watch(): every sign of a change leads to one look at all volumes.
#include "guard/guard_client.hpp"

#include <utility>

namespace thaw::guard {

namespace {

Result<std::vector<VolumeView>> read_all(BusMessage& reply) {
    std::vector<VolumeView> views;
    THAW_CHECK(reply.enter_container('a', "{oa{sa{sv}}}"));
    for (;;) {
        THAW_TRY(const bool more, reply.enter_container('e', "oa{sa{sv}}"));
        if (!more) break;
        const char* object = nullptr;
        THAW_CHECK(reply.read("o", &object));
        THAW_CHECK(reply.enter_container('a', "{sa{sv}}"));
        for (;;) {
            THAW_TRY(const bool another, reply.enter_container('e', "sa{sv}"));
            if (!another) break;
            const char* interface = nullptr;
            THAW_CHECK(reply.read("s", &interface));
            if (std::string_view(interface) == diskguard1::kVolumeInterface) {
                THAW_TRY(auto view, read_volume(reply));
                view.object = object;
                views.push_back(std::move(view));
            } else {
                THAW_CHECK(reply.skip("a{sv}"));
            }
            THAW_CHECK(reply.exit_container());
        }
        THAW_CHECK(reply.exit_container());
        THAW_CHECK(reply.exit_container());
    }
    THAW_CHECK(reply.exit_container());
    return views;
}

} // namespace

class GuardClient::Watch final : public GuardOperation {
public:
    Watch(Bus& bus, std::function<void(const std::vector<VolumeView>&)> handler)
        : bus_(bus), handler_(std::move(handler)) {}

    Result<> start() {
        // Matches first: what changes after the look is heard.
        const auto hint = [this](BusMessage&) { look(); };
        const auto rule = [](const char* more) {
            return fmt::format("type='signal',sender='{}',{}", diskguard1::kBusName, more);
        };
        THAW_TRY(
            auto properties,
            bus_.match_rule(
                rule("path_namespace='/org/thaw/diskguard1/volume',"
                     "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'"),
                hint
            )
        );
        THAW_TRY(
            auto objects, bus_.match_rule(
                              rule("path='/org/thaw/diskguard1',"
                                   "interface='org.freedesktop.DBus.ObjectManager'"),
                              hint
                          )
        );
        THAW_TRY(auto owner, bus_.watch_name(diskguard1::kBusName, [this](bool owned) {
            owned_ = owned;
            if (owned)
                look();
            else
                handler_({});
        }));
        slots_.push_back(std::move(properties));
        slots_.push_back(std::move(objects));
        slots_.push_back(std::move(owner));
        return {};
    }

private:
    void look() {
        if (!owned_) return; // a call would start a guardian that was stopped
        if (looking_) {
            again_ = true;
            return;
        }
        looking_ = true;
        call_ = bus_.call(
            bus_.new_call(
                diskguard1::kBusName, diskguard1::kPath, "org.freedesktop.DBus.ObjectManager",
                "GetManagedObjects"
            ),
            [this](Result<BusMessage> reply) {
                looking_ = false;
                // One that could not be read is followed by another sign, or by the owner's end.
                if (auto views = reply ? read_all(*reply) : std::vector<VolumeView>();
                    views && reply)
                    handler_(*views);
                if (std::exchange(again_, false)) look();
            }
        );
    }

    Bus& bus_;
    std::function<void(const std::vector<VolumeView>&)> handler_;
    std::vector<BusSlot> slots_;
    BusSlot call_;
    bool owned_ = false;
    bool looking_ = false;
    bool again_ = false;
};

Result<GuardHandle> GuardClient::watch(std::function<void(const std::vector<VolumeView>&)> handler
) {
    auto watch = std::make_unique<Watch>(bus_, std::move(handler));
    THAW_CHECK(watch->start());
    return GuardHandle(std::move(watch));
}

} // namespace thaw::guard
