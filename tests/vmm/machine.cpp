// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include "death.hpp"
#include "handshake.hpp"
#include "touch_guard.hpp"
#include "userfault.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

namespace thaw::standin {
namespace {

// How long a VMM waits for its vCPUs to answer.
constexpr unsigned vcpu_timeout_ms = 30'000;

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

/// Pages from `at` on: how many of `limit` are not resident, and then how many are. Twice `limit`
/// (errno): nobody can tell.
std::pair<std::uint64_t, std::uint64_t> resident_run(const std::uint8_t* at, std::uint64_t limit) {
    std::vector<unsigned char> resident(limit);
    if (::mincore(const_cast<std::uint8_t*>(at), limit * small_page, resident.data()) != 0) {
        return {limit, limit};
    }
    const auto is_there = [](unsigned char flags) { return (flags & 1) != 0; };
    const auto first = std::find_if(resident.begin(), resident.end(), is_there);
    const auto last = std::find_if_not(first, resident.end(), is_there);
    return {first - resident.begin(), last - first};
}

} // namespace

const char* Machine::state_name() const {
    if (!loaded_) {
        return "Not started";
    }
    return guest_->paused() ? "Paused" : "Running";
}

nlohmann::json Machine::machine_config() const {
    return {
        {"vcpu_count", state_.vcpus},
        {"mem_size_mib", loaded_ ? state_.memory_mib : 128},
        {"smt", false},
        {"track_dirty_pages", track_dirty_pages_},
        {"huge_pages", state_.page_size == small_page ? "None" : "2M"}
    };
}

nlohmann::json Machine::vm_config() const {
    nlohmann::json drives = nlohmann::json::array();
    for (const auto& drive : state_.drives) {
        drives.push_back(
            {{"drive_id", drive.drive_id},
             {"path_on_host", drive.path},
             {"is_read_only", drive.read_only},
             {"is_root_device", false},
             {"io_engine", "Sync"},
             {"socket", nullptr}}
        );
    }
    nlohmann::json config = {
        {"machine-config", machine_config()},
        {"drives", drives},
        {"network-interfaces", nlohmann::json::array()},
        {"balloon", nullptr},
        {"vsock", nullptr}
    };
    if (profile_.vm_config.is_object()) {
        config.update(profile_.vm_config);
    }
    return config;
}

Result<void> Machine::load(const LoadRequest& request) {
    const std::uint64_t started = now_ns();
    if (auto done = load_steps(request); !done) {
        broken_ = true;
        return fail("Load snapshot error: Failed to restore from snapshot: " + done.error());
    }
    load_ns_ = now_ns() - started;
    loaded_ = true;
    if (request.resume_vm) {
        if (auto done = resume(); !done) {
            broken_ = true;
            return fail("Load snapshot error: Failed to resume microVM: " + done.error());
        }
    }
    die_if_told(profile_, "after-load");
    return {};
}

Result<void> Machine::load_steps(const LoadRequest& request) {
    auto state = load_state(request.snapshot_path);
    if (!state) {
        return fail("Failed to get snapshot state from file: " + state.error());
    }
    state_ = std::move(*state);
    snapshot_directory_ = directory_of(request.snapshot_path);
    track_dirty_pages_ = request.track_dirty_pages;
    if (auto done = apply_overrides(request); !done) {
        return done;
    }
    const std::uint64_t memory_started = now_ns();
    if (auto done = map_memory(request); !done) {
        return fail("Failed to load guest memory: " + done.error());
    }
    memory_ns_ = now_ns() - memory_started;
    if (profile_.has("hang_in_load")) {
        for (;;) {
            ::pause();
        }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(profile_.slow_load_ms));
    const std::uint64_t devices_started = now_ns();
    if (!profile_.load_error.empty()) {
        return fail("Failed to build microVM from snapshot: " + profile_.load_error);
    }
    touch_for_devices();
    if (auto done = devices_.restore(state_); !done) {
        return fail(
            "Failed to build microVM from snapshot: Failed to restore devices: " + done.error()
        );
    }
    devices_ns_ = now_ns() - devices_started;
    return make_guest();
}

Result<void> Machine::apply_overrides(const LoadRequest& request) {
    for (const auto& wanted : request.network_overrides) {
        auto found = std::find_if(
            state_.interfaces.begin(), state_.interfaces.end(),
            [&](const auto& interface) { return interface.iface_id == wanted.iface_id; }
        );
        if (found == state_.interfaces.end()) {
            return fail("Unknown Network Device");
        }
        found->host_dev_name = wanted.host_dev_name;
    }
    if (request.vsock_override) {
        if (!state_.vsock_path) {
            return fail("Unknown Vsock Device");
        }
        state_.vsock_path = request.vsock_override;
    }
    return {};
}

Result<void> Machine::map_memory(const LoadRequest& request) {
    ledger_ = std::make_unique<PageLedger>(state_.memory_bytes() / small_page);
    uffd_ = request.uffd;
    if (uffd_) {
        auto done = map_uffd(request);
        return done ? done : fail("Error creating guest memory from uffd: " + done.error());
    }
    if (state_.page_size != small_page) {
        return fail("Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please "
                    "use uffd.");
    }
    Fd file(::open(request.backend_path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
        return fail(
            "Error creating guest memory from file: Failed to load guest memory: " + os_error(errno)
        );
    }
    auto done = memory_.map_file(layout_of(state_.memory_bytes()), file.get());
    return done ? done : fail("Error creating guest memory from file: " + done.error());
}

Result<void> Machine::map_uffd(const LoadRequest& request) {
    const auto layout = layout_of(state_.memory_bytes());
    if (auto done = memory_.map_anonymous(layout, state_.page_size); !done) {
        return done;
    }
    auto userfault = create_userfault(profile_.always_wants_remove() || state_.balloon);
    if (!userfault) {
        return fail(userfault.error());
    }
    userfault_ = std::move(*userfault);
    if (auto done = register_missing(userfault_.get(), memory_); !done) {
        return done;
    }
    auto socket = send_handshake(profile_, memory_, userfault_.get(), request.backend_path);
    if (!socket) {
        return fail(socket.error());
    }
    handshake_ = std::move(*socket);
    return {};
}

/// Restoring devices reads their rings in guest RAM, from the VMM's thread, before any vCPU runs.
void Machine::touch_for_devices() {
    const std::uint64_t pages = memory_.pages();
    for (unsigned i = 0; i < profile_.device_touch_pages; ++i) {
        std::uint8_t byte = 0;
        guarded_read(memory_.page(mix64(i) % pages), byte);
    }
}

Result<void> Machine::make_guest() {
    GuestParameters parameters;
    const nlohmann::json* const sources[] = {&state_.guest, &profile_.guest_json};
    for (const nlohmann::json* source : sources) {
        if (source->is_null()) {
            continue;
        }
        if (auto done = update_parameters(parameters, *source); !done) {
            return done;
        }
    }
    auto image = reference({});
    guest_ = std::make_unique<Guest>(
        memory_, *ledger_, image ? *image : nullptr, profile_.balloon_maps_over(), state_.vcpus
    );
    return guest_->start(parameters);
}

Result<void> Machine::pause() {
    return guest_->pause(vcpu_timeout_ms);
}

Result<void> Machine::resume() {
    const std::uint64_t started = now_ns();
    die_if_told(profile_, "on-resume");
    if (!profile_.resume_error.empty()) {
        return fail(profile_.resume_error);
    }
    if (resumed_at_ == 0) {
        start_death_clock(profile_);
    }
    guest_->resume();
    resumed_at_ = now_ns();
    resume_ns_ = resumed_at_ - started;
    return {};
}

Result<void> Machine::create_snapshot(
    const std::string& state_path, const std::string& memory_path, bool resident_only
) {
    if (!guest_->paused()) {
        return fail(
            "Cannot save the microVM state: Operation not allowed: save/restore unavailable "
            "while running"
        );
    }
    SnapshotState state = state_;
    state.recipe.reset(); // the guest may have changed any page
    if (auto done = save_state(state, state_path); !done) {
        return fail("Cannot perform open on the snapshot backing file: " + done.error());
    }
    Fd file(::open(memory_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) {
        return fail("Cannot perform open on the memory backing file: " + os_error(errno));
    }
    // Through a buffer: a write straight from guest RAM would answer EFAULT for a page that nobody
    // serves, where the real one waits.
    std::vector<std::uint8_t> buffer(256 * small_page);
    if (::ftruncate(file.get(), static_cast<off_t>(memory_.size())) != 0) {
        return fail("Cannot set the length of the memory file: " + os_error(errno));
    }
    for (std::uint64_t page = 0; page < memory_.pages();) {
        const std::uint64_t last = std::min(page + 256, memory_.region_end(page));
        std::size_t size = (last - page) * small_page;
        if (resident_only) {
            const auto [skip, count] = resident_run(memory_.page(page), last - page);
            if (skip + count > last - page) {
                return fail("Cannot find out which pages are resident: " + os_error(errno));
            }
            page += skip;
            size = count * small_page;
            if (count == 0) {
                continue;
            }
        }
        std::copy_n(memory_.page(page), size, buffer.data());
        if (::pwrite(file.get(), buffer.data(), size, static_cast<off_t>(page * small_page)) !=
            static_cast<ssize_t>(size)) {
            return fail("Cannot write memory file: " + os_error(errno));
        }
        page += size / small_page;
    }
    if (::fsync(file.get()) != 0) {
        return fail("Cannot perform sync_all on the memory backing file: " + os_error(errno));
    }
    return {};
}

Result<void> Machine::set_guest(const nlohmann::json& body) {
    if (body.is_object() && body.value("stop", false)) {
        return guest_->stop(vcpu_timeout_ms);
    }
    GuestParameters parameters = guest_->parameters();
    if (auto done = update_parameters(parameters, body); !done) {
        return done;
    }
    if (auto done = guest_->stop(vcpu_timeout_ms); !done) {
        return done;
    }
    return guest_->start(parameters);
}

nlohmann::json Machine::report() {
    nlohmann::json out = {
        {"state", state_name()}, {"generation", profile_.generation_name}, {"pid", ::getpid()}
    };
    if (!loaded_) {
        return out;
    }
    out["backend"] = uffd_ ? "Uffd" : "File";
    out["memory_bytes"] = memory_.size();
    out["page_size"] = memory_.page_size();
    out["load_us"] = load_ns_ / 1000;
    out["load_memory_us"] = memory_ns_ / 1000;
    out["load_devices_us"] = devices_ns_ / 1000;
    out["resume_us"] = resume_ns_ / 1000;
    out["resumed"] = resumed_at_ != 0;
    out["since_resume_us"] = resumed_at_ == 0 ? 0 : (now_ns() - resumed_at_) / 1000;
    out["devices"] = devices_.report();
    out["guest"] = guest_->report();
    return out;
}

} // namespace thaw::standin
