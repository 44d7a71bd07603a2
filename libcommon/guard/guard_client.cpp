// SPDX-License-Identifier: MIT
#include "guard/guard_client.hpp"

#include "core/text.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <utility>

namespace thaw::guard {

namespace {

constexpr Microseconds kCallLimit = kGuardPatience;
// Of the patience with one that was silent before.
constexpr Microseconds kSilentPart = 15;
constexpr const char* kProperties = "org.freedesktop.DBus.Properties";

template <class... Args>
Result<BusMessage>
manager_call(const Bus& bus, const char* member, const char* types, Args... args) {
    THAW_TRY(
        auto message,
        bus.new_call(diskguard1::kBusName, diskguard1::kPath, diskguard1::kManagerInterface, member)
    );
    THAW_CHECK(message.append(types, args...));
    return message;
}

Result<BusMessage> get_all(const Bus& bus, const std::string& object) {
    THAW_TRY(auto message, bus.new_call(diskguard1::kBusName, object, kProperties, "GetAll"));
    THAW_CHECK(message.append("s", diskguard1::kVolumeInterface));
    return message;
}

Result<> read_one(BusMessage& message, std::string_view name, VolumeView& view) {
    const auto number = [&](std::uint64_t& target) { return message.read("v", "t", &target); };
    const char* text = nullptr;
    if (name == "TotalBytes") return number(view.total);
    if (name == "FreeBytes") return number(view.free);
    if (name == "FreeInodes") return number(view.free_inodes);
    if (name == "ReleasableBytes") return number(view.releasable);
    if (name != "Id" && name != "MountPoint" && name != "Level" && name != "Writers")
        return message.skip("v");
    THAW_CHECK(message.read("v", "s", &text));
    if (name == "Id") view.id = text;
    if (name == "MountPoint") view.mount_point = text;
    if (name == "Level") view.level = diskguard1::kLevelNames.value(text).value_or(Level::Unknown);
    if (name == "Writers")
        view.writers = diskguard1::kWritersNames.value(text).value_or(Writers::Continue);
    return {};
}

Trouble classify(const Error& error) {
    if (!error.bus_name().empty()) return Trouble::Failing; // its own words
    switch (error.code()) {
    case EHOSTUNREACH: // ServiceUnknown
    case ENXIO:        // NameHasNoOwner
    case ENOENT:       // NoSuchUnit
    case ERFKILL:      // UnitMasked
    case EEXIST:       // what systemd 252 says of the alias of a masked unit
        return Trouble::Absent;
    case ETIMEDOUT: // NoReply, Timeout
        return Trouble::Silent;
    default:
        return Trouble::Failing;
    }
}

Result<Admission>
look_at_space(const std::string& who, const std::string& path, std::uint64_t bytes) {
    struct statvfs fs{};
    if (::statvfs(path.c_str(), &fs) != 0) {
        // What is not there is missed by whoever needs it.
        if (errno == ENOENT) return Admission{};
        return fail_errno(errno, "look at free space of {}", path);
    }
    const auto free = static_cast<std::uint64_t>(fs.f_bavail) * fs.f_frsize;
    if (free < bytes)
        return fail_named(
            diskguard1::error::kNoSpace, ENOSPC,
            "{} needs {} on the file system of {}: {} are free", who, format_size(bytes), path,
            format_size(free)
        );
    return Admission{};
}

// Errors of replies begin with the name, which means nothing to people.
Error without_name(const Error& error) {
    const auto prefix = fmt::format("{}: ", error.bus_name());
    auto text = error.message();
    if (text.starts_with(prefix)) text.erase(0, prefix.size());
    return {error.bus_name(), error.code(), std::move(text)};
}

} // namespace

Result<VolumeView> read_volume(BusMessage& message) {
    VolumeView view;
    THAW_CHECK(message.enter_container('a', "{sv}"));
    for (;;) {
        THAW_TRY(const bool more, message.enter_container('e', "sv"));
        if (!more) break;
        const char* name = nullptr;
        THAW_CHECK(message.read("s", &name));
        THAW_CHECK(read_one(message, name, view));
        THAW_CHECK(message.exit_container());
    }
    THAW_CHECK(message.exit_container());
    return view;
}

// One call after the other; the slot that is replaced is the one whose answer is being handled.
class GuardClient::Question final : public GuardOperation {
public:
    // All its calls together have `limit`.
    Question(Bus& bus, Microseconds limit) : bus_(bus), deadline_(now_monotonic() + limit) {}
    void ask(Result<BusMessage> message, Bus::ReplyHandler handler) {
        const auto now = now_monotonic();
        const auto left = deadline_ > now ? deadline_ - now : 1; // 0 would be the bus's own limit
        slot_ = bus_.call(std::move(message), std::move(handler), left);
    }
    void look(DiskHandle looking) { looking_ = std::move(looking); }
    Bus& bus() const { return bus_; }

    // The volume of `path`, then its properties.
    void find(const std::string& path, std::function<void(Result<VolumeView>)> handler) {
        ask(manager_call(bus_, "GetVolume", "s", path.c_str()),
            [this, handler = std::move(handler)](Result<BusMessage> reply) {
                const char* object = nullptr;
                auto read =
                    reply ? reply->read("o", &object) : Result<>(std::unexpected(reply.error()));
                if (!read) return handler(std::unexpected(std::move(read).error()));
                read_properties(object, handler);
            });
    }

private:
    void read_properties(
        const std::string& object, const std::function<void(Result<VolumeView>)>& handler
    ) {
        ask(get_all(bus_, object), [object, handler](Result<BusMessage> reply) {
            if (!reply) return handler(std::unexpected(std::move(reply).error()));
            auto view = read_volume(*reply);
            if (view) view->object = object;
            handler(std::move(view));
        });
    }
    Bus& bus_;
    Microseconds deadline_;
    BusSlot slot_;
    DiskHandle looking_;
};

GuardClient::GuardClient(
    Bus& bus, Disk& disk, std::string who, OnTrouble on_trouble, Microseconds patience
)
    : bus_(bus), disk_(disk), who_(std::move(who)), on_trouble_(std::move(on_trouble)),
      patience_(patience) {
    // A refusal is told from other errors by its name.
    register_bus_errors(diskguard1::kErrors);
}

void GuardClient::note_trouble(const Error& error) {
    const auto trouble = classify(error);
    if (std::exchange(told_, trouble) != trouble) on_trouble_(trouble, error);
}

DiskHandle GuardClient::admit_directly(
    const std::string& path, std::uint64_t bytes, std::function<void(Result<Admission>)> handler
) {
    return disk_.ask<Admission>(
        "free space of " + path,
        [who = who_, path, bytes] { return look_at_space(who, path, bytes); }, std::move(handler)
    );
}

GuardHandle
GuardClient::find_volume(const std::string& path, std::function<void(Result<VolumeView>)> handler) {
    auto question = std::make_unique<Question>(bus_, kCallLimit);
    question->find(path, std::move(handler));
    return question;
}

GuardHandle GuardClient::admit(
    const std::string& path, std::uint64_t bytes, const std::string& why,
    // NOLINTNEXTLINE(performance-unnecessary-value-param): several answers keep a copy
    std::function<void(Result<Admission>)> handler
) {
    const auto limit = told_ == Trouble::Silent ? patience_ / kSilentPart : patience_;
    auto question = std::make_unique<Question>(bus_, limit);
    auto* asked = question.get();
    // What the guardian cannot say, the file system does; but what it has waited for in vain is
    // not waited for once more.
    const auto directly = [this, asked, path, bytes, handler](const Error& trouble) {
        if (trouble.bus_name() == diskguard1::error::kTimeout)
            return handler(std::unexpected(without_name(trouble)));
        if (trouble.bus_name() != diskguard1::error::kNoSuchVolume) note_trouble(trouble);
        asked->look(admit_directly(path, bytes, handler));
    };
    const auto on_lease = [this, handler,
                           directly](Result<BusMessage> reply, const std::string& volume) {
        int fd = -1;
        if (!reply && reply.error().bus_name() == diskguard1::error::kNoSpace)
            return handler(std::unexpected(without_name(reply.error())));
        auto read = reply ? reply->read("h", &fd) : Result<>(std::unexpected(reply.error()));
        if (!read) return directly(read.error());
        const int kept = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (kept < 0) return handler(fail_errno(errno, "keep a lease"));
        note_admission();
        handler(Admission{Fd(kept), volume});
    };
    asked->find(
        path,
        [this, asked, bytes, why, handler, directly, on_lease](const Result<VolumeView>& found) {
            if (!found) return directly(found.error());
            const auto& volume = *found;
            if (volume.level >= Level::Critical)
                return handler(fail_named(
                    diskguard1::error::kNoSpace, ENOSPC,
                    "{} is {}: {} of {} and {} inodes are free; nothing new is begun there",
                    volume.mount_point, diskguard1::kLevelNames.name(volume.level),
                    format_size(volume.free), format_size(volume.total), volume.free_inodes
                ));
            asked->ask(
                manager_call(
                    asked->bus(), "Reserve", "stsst", volume.id.c_str(), bytes, who_.c_str(),
                    why.c_str(), std::uint64_t{0}
                ),
                [on_lease, id = volume.id](Result<BusMessage> reply) {
                    on_lease(std::move(reply), id);
                }
            );
        }
    );
    return question;
}

GuardHandle GuardClient::report_writers(
    const std::string& volume, bool paused, std::uint32_t count,
    std::function<void(Result<>)> handler
) {
    auto question = std::make_unique<Question>(bus_, kCallLimit);
    question->ask(
        manager_call(
            bus_, "ReportWriters", "ssut", volume.c_str(), paused ? "paused" : "resumed", count,
            std::uint64_t{0}
        ),
        [handler = std::move(handler)](Result<BusMessage> reply) {
            handler(reply ? Result<>() : std::unexpected(std::move(reply).error()));
        }
    );
    return question;
}

} // namespace thaw::guard
