// SPDX-License-Identifier: MIT
#include "manager.hpp"

#include "api/diskguard1.hpp"
#include "core/file.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

namespace thaw::diskguard {

namespace {

// Mounts come in bursts.
constexpr Microseconds kMountsSettle = 250 * kUsecPerMsec;
constexpr const char* kMountTable = "/proc/self/mountinfo";

} // namespace

Result<std::unique_ptr<Manager>> Manager::create(DaemonContext context, LoadedConfig loaded) {
    THAW_TRY(auto mailbox, Mailbox::create(context.loop));
    THAW_TRY(auto searcher, Worker::start(*mailbox, "search"));
    THAW_TRY(auto path_finder, Worker::start(*mailbox, "paths"));
    return std::unique_ptr<Manager>(new Manager(
        std::move(context), std::move(loaded), std::move(mailbox), std::move(searcher),
        std::move(path_finder)
    ));
}

Manager::Manager(
    DaemonContext context, LoadedConfig loaded, std::unique_ptr<Mailbox> mailbox,
    std::unique_ptr<Worker> searcher, std::unique_ptr<Worker> path_finder
)
    : context_(std::move(context)), loaded_(std::move(loaded)),
      systemd_(context_.bus, context_.loop),
      store_(loaded_.config.max_leases, context_.listen_fds.size()),
      leases_(
          context_.loop, store_, loaded_.config.max_leases,
          [this](const LeaseRecord& record) { lease_closed(record); }
      ),
      pauses_(PauseBook::load()), polkit_(context_.bus), hooks_(context_.bus, systemd_),
      mailbox_(std::move(mailbox)), searcher_(std::move(searcher)),
      path_finder_(std::move(path_finder)) {}

Manager::~Manager() = default;

Result<> Manager::start() {
    register_bus_errors(diskguard1::kErrors);
    log_config_warnings(loaded_.warnings);
    leases_.adopt(std::exchange(context_.listen_fds, {}));
    THAW_CHECK(systemd_.start());
    THAW_CHECK(export_objects());
    hooks_.start();
    THAW_CHECK(watch_mounts());
    if (loaded_.config.pressure) watch_pressure();
    search();
    return {};
}

std::string Manager::status_text() const {
    std::uint64_t releasable = 0;
    for (const auto& [id, volume] : volumes_)
        if (const auto& measured = volume->state().measured()) releasable += measured->releasable;
    return fmt::format(
        "{} volumes, level {}, {} releasable, {} leases.", volumes_.size(),
        diskguard1::kLevelNames.name(level()), format_size(releasable), leases_.size()
    );
}

void Manager::update() {
    const auto worst = level();
    if (std::exchange(shown_level_, worst) != worst) changed({"Level"});
    hooks_.want(wanted_targets(), levels_known());
    auto text = status_text();
    if (text == status_) return;
    status_ = std::move(text);
    notify_status(status_);
}

Level Manager::level() const {
    auto worst = Level::Unknown;
    for (const auto& [id, volume] : volumes_)
        worst = std::max(worst, volume->state().level());
    return worst;
}

// Before the first look nothing is known of what an earlier run started.
bool Manager::levels_known() const {
    return searched_ && std::ranges::none_of(volumes_, [](const auto& entry) {
               return entry.second->state().level() == Level::Unknown;
           });
}

std::set<std::string> Manager::wanted_targets() const {
    std::set<std::string> targets;
    for (const auto& [id, volume] : volumes_) {
        for (auto& target : level_targets(volume->found().mount_point, volume->state().level()))
            targets.insert(std::move(target));
        if (volume->state().level() == Level::Full) targets.insert(kEmergencyTarget);
    }
    return targets;
}

// ---- finding volumes ------------------------------------------------------------------------

// The kernel says on this descriptor that mounts changed; it lies on /proc and pins nothing.
Result<> Manager::watch_mounts() {
    THAW_TRY(mounts_, open_file(kMountTable, O_RDONLY));
    THAW_TRY(
        mounts_source_, context_.loop.add_io(
                            mounts_.get(), EPOLLPRI, [this](std::uint32_t) { search_later(); },
                            "mounts", priority::kTimer
                        )
    );
    return {};
}

void Manager::watch_pressure() {
    auto pressure = Pressure::watch(context_.loop, [this] { look_at_all(); });
    if (pressure)
        pressure_ = std::move(*pressure);
    else
        log_info("no word of disk pressure: {}", pressure.error().message());
}

void Manager::look_at_all() {
    const auto now = now_monotonic();
    if (now - last_stall_ < loaded_.config.poll.fastest) return;
    last_stall_ = now;
    for (const auto& [id, volume] : volumes_)
        volume->look(false);
}

void Manager::search_later() {
    if (search_timer_) return;
    auto timer = context_.loop.add_timer(
        kMountsSettle,
        [this] {
            search_timer_.reset();
            search();
        },
        "search-volumes", priority::kReconcile
    );
    if (timer)
        search_timer_ = std::move(*timer);
    else
        log_error("{}", timer.error().message());
}

void Manager::search() {
    if (searching_) {
        search_again_ = true;
        return;
    }
    searching_ = true;
    searcher_->run<reserve::FoundVolumes>(
        [paths = loaded_.config.paths] { return reserve::find_volumes(paths); },
        [this](reserve::FoundVolumes found) { on_found(std::move(found)); }
    );
}

void Manager::on_found(reserve::FoundVolumes found) {
    searching_ = false;
    std::set<std::string> present;
    for (auto& volume : found.volumes) {
        present.insert(volume.id);
        const auto known = volumes_.find(volume.id);
        if (known == volumes_.end()) {
            add(volume);
            continue;
        }
        known->second->set_found(std::move(volume));
    }
    std::vector<std::string> absent;
    for (const auto& [id, volume] : volumes_)
        if (!present.contains(id)) absent.push_back(id);
    for (const auto& id : absent)
        remove(id);
    say_problems(found.problems);
    const bool first = !std::exchange(searched_, true);
    update();
    if (first)
        for (const auto& call : std::exchange(waiting_, {}))
            call();
    if (std::exchange(search_again_, false)) search_later();
}

void Manager::say_problems(const std::vector<reserve::PathProblem>& problems) {
    std::set<std::string> now;
    for (const auto& [path, error] : problems) {
        auto text = fmt::format("{} is not guarded: {}", path, error.message());
        if (!said_problems_.contains(text)) log_warning("{}", text);
        now.insert(std::move(text));
    }
    said_problems_ = std::move(now);
}

void Manager::add(const reserve::Volume& found) {
    const Guard guard{
        context_.loop, context_.bus, *mailbox_, loaded_.config, leases_, pauses_, *this,
    };
    auto created = Volume::create(guard, found);
    if (!created) {
        log_error("{} is not guarded: {}", found.mount_point, created.error().message());
        return;
    }
    auto& volume = *(volumes_[found.id] = std::move(*created));
    (void)context_.bus.emit_object_added(volume.path());
    emit("VolumeNew", "so", volume.id().c_str(), volume.path().c_str());
    changed({"NVolumes"});
    log_info(
        volume.log_fields(), "guarding {} ({} on {})", found.mount_point, found.type, found.source
    );
    volume.look(true);
}

void Manager::remove(const std::string& id) {
    auto volume = volumes_.extract(id);
    auto& removed = *volume.mapped();
    log_notice(
        removed.log_fields(), "{} is not guarded any more: no configured path lies on it",
        removed.found().mount_point
    );
    (void)context_.bus.emit_object_removed(removed.path());
    emit("VolumeRemoved", "sos", id.c_str(), removed.path().c_str(), "gone");
    changed({"NVolumes"});
    gone_.push_back(std::move(volume.mapped()));
    auto later =
        context_.loop.add_defer([this] { gone_.clear(); }, "volumes-collect", priority::kCollect);
    // Without it they are freed with the next one that goes.
    if (later) collect_ = std::move(*later);
}

// ---- of volumes -----------------------------------------------------------------------------

void Manager::level_changed(Volume& volume, Level from) {
    const auto& space = volume.state().space();
    emit(
        "LevelChanged", "ssstt", volume.id().c_str(),
        std::string(diskguard1::kLevelNames.name(from)).c_str(),
        std::string(diskguard1::kLevelNames.name(volume.state().level())).c_str(), space.available,
        space.inodes_available
    );
    update();
}

void Manager::action_taken(Volume& volume, std::string_view action, std::string_view reason) {
    emit(
        "ActionTaken", "sss", volume.id().c_str(), std::string(action).c_str(),
        std::string(reason).c_str()
    );
    update();
}

void Manager::volume_changed(Volume&) {
    update();
}

void Manager::volume_moved(Volume&) {
    search_later();
}

} // namespace thaw::diskguard
