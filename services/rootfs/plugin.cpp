// SPDX-License-Identifier: MIT
// nbdkit's side of an overlay: no more than glue. nbdkit is the server (sockets, threads, the
// protocol); it calls from many threads at once, which the overlay is made for.
#include "build_config.hpp"
#include "log/log.hpp"
#include "side_thread.hpp"
#include "systemd/notify.hpp"
#include "trouble.hpp"

#include <exception>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace {

using namespace thaw;         // NOLINT(google-build-using-namespace): nobody includes this
using namespace thaw::rootfs; // NOLINT(google-build-using-namespace)

struct State {
    Settings settings;
    std::atomic<unsigned> clients{0};
    std::unique_ptr<Trouble> trouble;
    std::unique_ptr<Overlay> overlay;
    std::unique_ptr<SideThread> side;
};
State& state() {
    static State state;
    return state;
}

// No exception may reach nbdkit, which is C.
template <class Work>
Result<> guarded(Work work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return fail(ENOMEM, "out of memory");
    } catch (const std::exception& error) {
        return fail(EIO, "{}", error.what());
    }
}

// For the phases of the start: the reason is nbdkit's to print.
template <class Work>
int start_step(Work work) {
    const auto done = guarded(work);
    if (done) return 0;
    nbdkit_error("%s", done.error().message().c_str());
    return -1;
}

template <class Work>
int serve(Request request, Work work) {
    const auto done = guarded(work);
    if (done) return 0;
    nbdkit_debug("%s", done.error().message().c_str());
    nbdkit_set_error(state().trouble->tell(request, done.error()));
    return -1;
}

int on_config(const char* key, const char* value) {
    return start_step([&] { return apply_setting(state().settings, key, value); });
}

int on_config_complete() {
    return start_step([] { return check_settings(state().settings); });
}

int on_get_ready() {
    return start_step([]() -> Result<> {
        log_init("thaw-rootfs");
        state().trouble = std::make_unique<Trouble>(state().settings.name);
        THAW_TRY(state().overlay, open_overlay(state().settings));
        return {};
    });
}

// Only now: threads don't survive a fork.
int on_after_fork() {
    return start_step([]() -> Result<> {
        auto& all = state();
        THAW_TRY(all.side, SideThread::start(*all.overlay, all.settings, all.clients));
        notify_ready(all.settings.durable.empty() ? "Serving." : "Serving, durable.");
        return {};
    });
}

void on_unload() {
    state().side.reset();
    state().overlay.reset(); // commits
}

void* on_open(int) {
    ++state().clients;
    return NBDKIT_HANDLE_NOT_NEEDED;
}
void on_close(void*) {
    --state().clients;
}

std::int64_t on_get_size(void*) {
    return static_cast<std::int64_t>(state().overlay->size());
}
int yes(void*) {
    return 1;
}
int no(void*) {
    return 0;
}
int fua_native(void*) {
    return NBDKIT_FUA_NATIVE;
}

int on_block_size(void*, std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) {
    *minimum = 1;
    *preferred = kBlockSize;
    *maximum = 0xffff'ffff;
    return 0;
}

int on_pread(void*, void* buffer, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
    return serve(Request::Read, [&] {
        return state().overlay->read(offset, {static_cast<std::byte*>(buffer), count});
    });
}

int on_pwrite(
    void*, const void* buffer, std::uint32_t count, std::uint64_t offset, std::uint32_t flags
) {
    return serve(Request::Write, [&] {
        return state().overlay->write(
            offset, {static_cast<const std::byte*>(buffer), count}, (flags & NBDKIT_FLAG_FUA) != 0
        );
    });
}

int on_flush(void*, std::uint32_t) {
    return serve(Request::Flush, [] { return state().overlay->flush(); });
}

int on_trim(void*, std::uint32_t count, std::uint64_t offset, std::uint32_t flags) {
    return serve(Request::Write, [&] {
        return state().overlay->trim(offset, count, (flags & NBDKIT_FLAG_FUA) != 0);
    });
}

// Without NBDKIT_FLAG_MAY_TRIM the client would like to keep room for later writes. An overlay
// promises room to nobody, so that changes nothing.
int on_zero(void*, std::uint32_t count, std::uint64_t offset, std::uint32_t flags) {
    return serve(Request::Write, [&] {
        return state().overlay->zero(offset, count, (flags & NBDKIT_FLAG_FUA) != 0);
    });
}

int on_extents(
    void*, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, nbdkit_extents* extents
) {
    return serve(Request::Read, [&]() -> Result<> {
        bool added = true;
        state().overlay->extents(offset, count, [&](const Overlay::Extent& extent) {
            const auto type = extent.zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
            added = nbdkit_add_extent(
                        extents, extent.offset, extent.length, static_cast<std::uint32_t>(type)
                    ) == 0;
            return added && (flags & NBDKIT_FLAG_REQ_ONE) == 0;
        });
        if (!added) return fail(ENOMEM, "the list of extents");
        return {};
    });
}

nbdkit_plugin plugin = {
    .name = "thaw-rootfs",
    .longname = "thaw: copy-on-write root file system of a VM",
    .version = THAW_VERSION,
    .unload = on_unload,
    .config = on_config,
    .config_complete = on_config_complete,
    .config_help = kSettingsHelp,
    .open = on_open,
    .close = on_close,
    .get_size = on_get_size,
    .can_write = yes,
    .can_flush = yes,
    .is_rotational = no,
    .can_trim = yes,
    .can_zero = yes,
    .can_fua = fua_native,
    .pread = on_pread,
    .pwrite = on_pwrite,
    .flush = on_flush,
    .trim = on_trim,
    .zero = on_zero,
    .magic_config_key = "base",
    .can_multi_conn = yes,
    .can_extents = yes,
    .extents = on_extents,
    .can_fast_zero = yes,
    .get_ready = on_get_ready,
    .after_fork = on_after_fork,
    .block_size = on_block_size,
};

} // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
