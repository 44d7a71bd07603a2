// SPDX-License-Identifier: MIT
#pragma once

// One guarded file system on the bus: /org/thaw/diskguard1/volume/ID. Looks at it, lays, heals and
// releases its reserve, all in the volume's own thread, and publishes what changed.

#include "bus/bus.hpp"
#include "event/worker.hpp"
#include "lease.hpp"
#include "log/log.hpp"
#include "pause_book.hpp"
#include "reserve/arm.hpp"
#include "reserve/release.hpp"
#include "reserve/volume.hpp"
#include "volume_state.hpp"

#include <systemd/sd-bus-vtable.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace thaw::diskguard {

class Volume;

// What volumes tell their owner. A callback may not destroy the volume that calls.
class VolumeOwner {
public:
    virtual void level_changed(Volume& volume, Level from) = 0;
    // Something was done to the volume, or its writers are to be paused or resumed.
    virtual void action_taken(Volume& volume, std::string_view action, std::string_view reason) = 0;
    // What is shown of it is another thing now.
    virtual void volume_changed(Volume& volume) = 0;
    // It is no longer mounted where it was.
    virtual void volume_moved(Volume& volume) = 0;
    virtual Result<> method_release(Volume& volume, BusMessage message) = 0;

protected:
    ~VolumeOwner() = default;
};

struct Guard {
    EventLoop& loop;
    Bus& bus;
    Mailbox& mailbox;
    const Config& config;
    const LeaseBook& leases;
    PauseBook& pauses;
    VolumeOwner& owner;
};

// Who releases, and why: for the journal and the signal.
struct ReleaseCause {
    std::string who;
    std::string why;
};

class Volume {
public:
    static Result<std::unique_ptr<Volume>> create(const Guard& guard, reserve::Volume found);
    Volume(const Volume&) = delete;
    Volume& operator=(const Volume&) = delete;

    const std::string& id() const { return found_.id; }
    const std::string& path() const { return path_; }
    const reserve::Volume& found() const { return found_; }
    const VolumeState& state() const { return state_; }
    std::uint64_t promised() const { return guard_.leases.promised(id()); }
    Writers writers() const { return writers_; }

    // Where a new search found it, and what leads to it now.
    void set_found(reserve::Volume found);
    // Looks now, at the whole reserve or at free space only.
    void look(bool whole);
    // Measures free space anew for one answer; a volume that hangs answers never.
    void measure_space(std::function<void(Result<reserve::Space>)> handler);
    void release(
        std::optional<std::uint64_t> bytes, ReleaseCause cause,
        std::function<void(Result<reserve::ReleaseReport>)> handler
    );
    // The restore manager has paused `count` writers, or resumed them.
    void writers_reported(bool stopped, std::uint32_t count);

    LogFields log_fields() const;
    static const sd_bus_vtable* vtable();

private:
    struct Look;
    struct Laid;
    struct Released;

    Volume(const Guard& guard, reserve::Volume found, std::unique_ptr<Worker> worker);

    // volume.cpp: looking
    void on_timer();
    void on_looked(Result<Look> look);
    void on_failed_look(const Error& error);
    void schedule();
    void publish();
    void publish_level(Level before);
    void decide_writers();
    void changed(std::vector<std::string> properties);

    // volume_reserve.cpp: laying, healing, releasing
    void act();
    bool lay();
    void on_laid(Laid laid);
    bool heal();
    void on_released(
        Released released, const ReleaseCause& cause,
        const std::function<void(Result<reserve::ReleaseReport>)>& handler
    );
    void release_if_wanted();
    void say_state();
    void say_rearm();
    void take(Result<reserve::Measurement> measured);

    // volume_bus.cpp
    Result<> method_release(BusMessage message);
    template <auto Text>
    Result<> append_text(BusMessage& reply) const;
    template <auto Number>
    Result<> append_number(BusMessage& reply) const;
    Result<> append_read_only(BusMessage& reply) const;
    Result<> append_rate(BusMessage& reply) const;
    Result<> append_chunks(BusMessage& reply) const;
    Result<> append_missing_chunks(BusMessage& reply) const;

    Guard guard_;
    reserve::Volume found_;
    std::string path_;
    VolumeState state_;
    std::unique_ptr<Worker> worker_;
    EventSource timer_;

    bool looking_ = false; // a look, or what follows from it, is under way
    bool again_ = false;   // asked for meanwhile
    bool again_whole_ = false;
    bool hung_ = false;
    unsigned releases_ = 0;         // under way: nothing is laid meanwhile
    Microseconds last_whole_ = 0;   // when the reserve was looked at last
    Microseconds next_attempt_ = 0; // after a failure to lay or heal
    std::uint64_t looked_at_ = 0;   // CLOCK_REALTIME

    // What was published last.
    reserve::State shown_state_ = reserve::State::Failed;
    std::string shown_reason_;
    Level shown_bytes_ = Level::Unknown;
    Level shown_inodes_ = Level::Unknown;
    std::optional<reserve::State> said_state_;
    reserve::RearmAction said_rearm_ = reserve::RearmAction::None;

    Writers writers_;
    bool writers_stopped_ = false;
    std::optional<Microseconds> last_auto_release_;
};

} // namespace thaw::diskguard
