// SPDX-License-Identifier: MIT
#pragma once

// The verbs of thawctl, one function each; they print and return an exit code, or an Error that
// main() prints. Argument structs are filled by the command line parser.

#include "core/error.hpp"
#include "image/manifest.hpp"
#include "output.hpp"
#include "share_request.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thaw::ctl {

// The VM's root file system as an overlay; as typed.
struct OverlayArguments {
    std::string base; // empty: none
    std::string size; // empty, like the next two: the server's default
    std::string memory_max;
    std::string disk_max;
    bool durable = false;
    std::string drive; // of the image, to be a block device of the overlay; empty: none
};

struct RestoreArguments {
    std::string name;
    std::string image;
    std::string memory_backend; // empty: the manager's choice
    std::optional<bool> prefetch;
    bool track = false;
    std::string prefetch_rate; // as typed, like the next two; empty: the pager's
    std::string replay_budget;
    std::string sequential_budget;
    std::string load_timeout;                   // as typed; empty: the manager's
    std::vector<std::string> network_overrides; // IFACE=DEV
    OverlayArguments rootfs;
    bool from_config = false;
    bool no_block = false;
    std::string instances_directory; // of the NAME.conf files
};
Result<int> verb_restore(const RestoreArguments& arguments, const OutputOptions& options);

struct StopArguments {
    std::string name;
    bool no_block = false;
    bool ignore_missing = false;
};
Result<int> verb_stop(const StopArguments& arguments, const OutputOptions& options);

Result<int> verb_list(const OutputOptions& options);
Result<int> verb_jobs(const OutputOptions& options);
Result<int> verb_sessions(const OutputOptions& options);
// All of the host without a name.
Result<int> verb_status(const std::string& name, const OutputOptions& options);
// Live view of all sessions, or of the named VMs.
struct TopArguments {
    std::vector<std::string> names;
    std::string interval;    // as typed; empty: two seconds
    unsigned iterations = 0; // 0: until interrupted; JSON and pipes: once unless given
};
Result<int> verb_top(const TopArguments& arguments, const OutputOptions& options);
Result<int> verb_metrics(const OutputOptions& options);

struct SessionArguments {
    std::string name;
    bool no_block = false; // complete
    bool release = false;  // quiesce
    std::optional<bool> prefetch;
    std::string rate; // as typed; empty: unchanged
    std::string replay_budget;
    std::string sequential_budget;
};
Result<int> verb_complete(const SessionArguments& arguments, const OutputOptions& options);
Result<int> verb_quiesce(const SessionArguments& arguments, const OutputOptions& options);
Result<int> verb_prefetch(const SessionArguments& arguments, const OutputOptions& options);

struct SnapshotArguments {
    std::string name;
    std::string image;
    bool diff = false;
    bool no_block = false;
};
Result<int> verb_snapshot(const SnapshotArguments& arguments, const OutputOptions& options);

Result<int> verb_cancel(const std::string& id, const OutputOptions& options);
Result<int>
verb_policy(const std::string& key, const std::string& value, const OutputOptions& options);
enum class Switch { Pause, Resume };
Result<int> verb_switch(Switch what, const std::string& name, const OutputOptions& options);

struct ImageArguments {
    std::string root;
    std::string name;
    std::string state_path;
    std::string memory_path;
    std::string rootfs_path; // empty: the image has none
    std::string page_size = "4K";
    std::string vmm = "firecracker";
    std::string vmm_version;
    std::vector<std::string> drives; // ID=PATH[:ro][:shared]
    std::string vsock_path;
    std::string base;       // with it the image becomes a difference to that one,
    std::string pages_path; // of the pages that this bitmap names
    std::string delta_path; // of export-delta, import-delta
    bool move = false;
    bool force = false;
    std::uint32_t runs = 1;
    std::string max; // as typed; empty: the manager's RecordMaxSec=
    bool allow_writes = false;
    bool no_block = false;
    std::string url; // the folder of a remote image
    std::string fetch_socket = protocol::kFetchSocket;
};
Result<int> verb_image_import(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_seal(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_record(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_verify(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_list(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_show(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_remove(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_add_remote(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_pull(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_push(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_export_delta(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_import_delta(const ImageArguments& arguments, const OutputOptions& options);
Result<int> verb_image_clean(const ImageArguments& arguments, const OutputOptions& options);

Result<int> verb_share_add(const ShareArguments& arguments, const OutputOptions& options);
// For a VMM of somebody else's: prints the socket alone.
Result<int> verb_share_open(const ShareArguments& arguments, const OutputOptions& options);
Result<int> verb_share_list(const OutputOptions& options);
// All shares of the VM without a tag.
Result<int> verb_share_status(const ShareArguments& arguments, const OutputOptions& options);
Result<int> verb_share_remove(const ShareArguments& arguments, const OutputOptions& options);
Result<int> verb_share_raise_limit(const ShareArguments& arguments, const OutputOptions& options);
Result<int> verb_share_drop_caches(const ShareArguments& arguments, const OutputOptions& options);

struct CacheArguments {
    std::string vm;
    std::string source;
    std::string destination; // in the guest, absolute
    std::string transport;   // as typed; empty: from the configuration
    std::string timeout;     // as typed; empty: the default
    bool refresh = false;
};
Result<int> verb_cache_warm(const CacheArguments& arguments, const OutputOptions& options);

// Root file systems that an overlay keeps the changes of.
struct RootfsArguments {
    std::string runtime; // folder of the overlays' sockets
    std::string vm;
    std::string file;  // of a difference
    std::string other; // of compare
    std::string output;
    std::string base; // file
    bool force = false;
    bool in_place = false;
    bool assume_base = false;
};
Result<int> verb_rootfs_list(const RootfsArguments& arguments, const OutputOptions& options);
Result<int> verb_rootfs_status(const RootfsArguments& arguments, const OutputOptions& options);
Result<int> verb_rootfs_export(const RootfsArguments& arguments, const OutputOptions& options);
Result<int> verb_rootfs_import(const RootfsArguments& arguments, const OutputOptions& options);
// As cmp(1): 0 the same, 1 not, 2 trouble.
Result<int> verb_rootfs_compare(const RootfsArguments& arguments, const OutputOptions& options);
// What a difference is, of a disk or of a memory.
Result<int> verb_rootfs_show(const RootfsArguments& arguments, const OutputOptions& options);

struct ReserveArguments {
    std::string volume;      // id, UUID, mount point or any path; empty: the only one there is
    std::uint64_t bytes = 0; // 0: all
    bool all = false;
};
Result<int> verb_reserve_status(const OutputOptions& options);
Result<int> verb_reserve_release(const ReserveArguments& arguments, const OutputOptions& options);
Result<int> verb_df(bool watch, const OutputOptions& options);

Result<int> verb_doctor(const std::string& image_root, const OutputOptions& options);

// Parsers of arguments, without side effects. EINVAL with a text for the user.
Result<image::Drive> parse_drive(const std::string& text);
Result<std::uint64_t> parse_page_size(const std::string& text);
struct NetworkOverride {
    std::string interface;
    std::string device;
};
Result<NetworkOverride> parse_network_override(const std::string& text);
Result<std::string> check_backend(const std::string& text);

} // namespace thaw::ctl
