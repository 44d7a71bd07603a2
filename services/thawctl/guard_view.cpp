// SPDX-License-Identifier: MIT
#include "guard_view.hpp"

#include "api/diskguard1.hpp"
#include "reserve/hint.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace thaw::ctl {

namespace {

constexpr const char* kBus = diskguard1::kBusName;

Result<BusMessage> ask(Client& client, const char* member, const char* types, auto... args) {
    return client.simple(
        kBus, diskguard1::kPath, diskguard1::kManagerInterface, member, types, args...
    );
}

Result<nlohmann::json> read_leases(BusMessage& reply) {
    auto leases = nlohmann::json::array();
    THAW_CHECK(reply.enter_container('a', "(sstssut)"));
    for (;;) {
        THAW_TRY(const bool more, reply.enter_container('r', "sstssut"));
        if (!more) break;
        const char *id = nullptr, *volume = nullptr, *who = nullptr, *why = nullptr;
        std::uint64_t bytes = 0;
        std::uint64_t since = 0;
        std::uint32_t uid = 0;
        THAW_CHECK(reply.read("sstssut", &id, &volume, &bytes, &who, &why, &uid, &since));
        leases.push_back(
            {{"id", id},
             {"volume", volume},
             {"bytes", bytes},
             {"who", who},
             {"why", why},
             {"uid", uid},
             {"since", since}}
        );
        THAW_CHECK(reply.exit_container());
    }
    return leases;
}

// The guardian's answer, or its refusal.
Result<Fd>
ask_guardian(Client& client, const std::string& path, std::uint64_t bytes, const std::string& why) {
    THAW_TRY(auto found, ask(client, "GetVolume", "s", path.c_str()));
    const char* object = nullptr;
    THAW_CHECK(found.read("o", &object));
    THAW_TRY(const auto volume, client.properties(kBus, object, diskguard1::kVolumeInterface));
    const auto level = diskguard1::kLevelNames.value(volume.text("Level"));
    if (level && *level >= diskguard1::Level::Critical)
        return fail_named(
            diskguard1::error::kNoSpace, ENOSPC,
            "{} is {}: {} of {} and {} inodes are free; nothing new is begun there",
            volume.text("MountPoint"), volume.text("Level"),
            format_size(volume.number("FreeBytes")), format_size(volume.number("TotalBytes")),
            volume.number("FreeInodes")
        );
    THAW_TRY(
        auto reply, ask(client, "Reserve", "stsst", volume.text("Id").c_str(), bytes, "thawctl",
                        why.c_str(), std::uint64_t{0})
    );
    int fd = -1;
    THAW_CHECK(reply.read("h", &fd));
    Fd kept(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!kept) return fail_errno(errno, "keep a lease");
    return kept;
}

Result<Fd> look_directly(const std::string& path, std::uint64_t bytes) {
    struct statvfs fs{};
    // What is not there is missed by the work itself.
    if (::statvfs(path.c_str(), &fs) != 0) return Fd();
    const auto blocks = ::geteuid() == 0 ? fs.f_bfree : fs.f_bavail;
    const auto free = static_cast<std::uint64_t>(blocks) * fs.f_frsize;
    if (free >= bytes) return Fd();
    return fail(
        ENOSPC, "{} are needed on the file system of {}: {} are free", format_size(bytes), path,
        format_size(free)
    );
}

} // namespace

Result<GuardView> read_guard(Client& client) {
    GuardView view;
    THAW_TRY(auto reply, ask(client, "ListVolumes", ""));
    std::vector<std::string> objects;
    THAW_CHECK(reply.enter_container('a', "(ssssttto)"));
    for (;;) {
        THAW_TRY(const bool more, reply.enter_container('r', "ssssttto"));
        if (!more) break;
        const char* object = nullptr;
        THAW_CHECK(reply.skip("ssssttt"));
        THAW_CHECK(reply.read("o", &object));
        objects.emplace_back(object);
        THAW_CHECK(reply.exit_container());
    }
    for (const auto& object : objects) {
        auto volume = client.properties(kBus, object, diskguard1::kVolumeInterface);
        // Unmounted between the two calls.
        if (!volume) continue;
        volume->values["Object"] = object;
        view.volumes.push_back(std::move(*volume));
    }
    THAW_TRY(auto leases, ask(client, "ListLeases", ""));
    THAW_TRY(view.leases, read_leases(leases));
    return view;
}

bool has_guardian(Client& client) {
    constexpr const char* kDriver = "org.freedesktop.DBus";
    auto reply =
        client.simple(kDriver, "/org/freedesktop/DBus", kDriver, "NameHasOwner", "s", kBus);
    int owned = 0;
    return reply && reply->read("b", &owned) && owned != 0;
}

Result<Fd> admit_work(
    const std::string& path, std::uint64_t bytes, const std::string& why,
    const OutputOptions& options
) {
    auto client = Client::open(options);
    const bool there = client && has_guardian(*client);
    auto admitted = there ? ask_guardian(*client, path, bytes, why) : look_directly(path, bytes);
    const auto refused = [&] {
        return !admitted && admitted.error().bus_name() == diskguard1::error::kNoSpace;
    };
    if (!there) {
        print_hint("No disk guardian answers: free space is looked at directly.");
    } else if (!admitted && !refused()) {
        // Not guarded there, or not ours to have promised.
        admitted = look_directly(path, bytes);
    }
    if (refused()) return std::unexpected(reserve::with_release_hint(admitted.error(), path));
    return admitted;
}

Color color_of_level(std::string_view level) {
    if (level == "normal") return Color::Good;
    if (level == "low") return Color::Warning;
    return level == "critical" || level == "full" ? Color::Bad : Color::None;
}

Color color_of_reserve(std::string_view state) {
    if (state == "armed") return Color::Good;
    return state == "failed" || state == "placebo" ? Color::Bad : Color::Warning;
}

} // namespace thaw::ctl
