// SPDX-License-Identifier: MIT
#include "create_request.hpp"

#include "bus/errors.hpp"
#include "bus/flags.hpp"
#include "bus/properties.hpp"
#include "core/names.hpp"
#include "image/manifest.hpp"
#include "protocol/worker_control.hpp"
#include "remote_options.hpp"
#include "request_option.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace thaw::pagerd {

namespace {

constexpr std::uint64_t kSmallPage = 4096;
constexpr std::uint64_t kHugePage = 2 << 20;
constexpr Microseconds kLongestHandshake = 600 * kUsecPerSec;

// Where a file of that name goes; nullptr for an unknown one. "base-1" is the image right below.
Fd* file_target(CreateRequest& request, std::string_view name) {
    constexpr std::string_view kBase = "base-";
    if (name == "memory") return &request.files.memory;
    if (name == "map") return &request.files.map;
    if (name == "layers") return &request.files.layers;
    if (name == "working-set") return &request.working_set;
    if (name == "remote-memory") {
        if (!request.remote) request.remote.emplace();
        return &request.remote->file;
    }
    if (name.size() != kBase.size() + 1 || !name.starts_with(kBase)) return nullptr;
    const auto number = static_cast<std::size_t>(name.back() - '0');
    if (number < 1 || number > protocol::kMaxBases) return nullptr;
    auto& bases = request.files.bases;
    if (bases.size() < number) bases.resize(number);
    return &bases[number - 1];
}

Result<> read_files(BusMessage& message, CreateRequest& request) {
    return read_file_options(message, [&](std::string_view name) {
        return file_target(request, name);
    });
}

// false: not one of these.
Result<bool>
read_prefetch_option(BusMessage& message, std::string_view key, protocol::PrefetchPolicy& policy) {
    if (key == "Prefetch") {
        THAW_TRY(const int on, read_variant<int>(message, "Prefetch", "b"));
        policy.enabled = on != 0;
        return true;
    }
    std::uint64_t* target = key == "PrefetchRate"       ? &policy.rate
                            : key == "ReplayBudget"     ? &policy.replay_budget
                            : key == "SequentialBudget" ? &policy.sequential_budget
                                                        : nullptr;
    if (target == nullptr) return false;
    THAW_TRY(*target, read_variant<std::uint64_t>(message, key, "t"));
    return true;
}

Result<> read_option(BusMessage& message, std::string_view key, CreateRequest& request) {
    auto& info = request.info;
    if (key == "ImageId") {
        THAW_TRY(const auto* text, read_variant<const char*>(message, "ImageId", "s"));
        auto id = image::parse_id(text);
        if (!id) return invalid("ImageId: {}", id.error().message());
        info.image_id = *id;
    } else if (key == "ImageName") {
        THAW_TRY(const auto* text, read_variant<const char*>(message, "ImageName", "s"));
        if (!is_valid_image_name(text)) return invalid("'{}' is no image name", text);
        info.image_name = text;
    } else if (key == "MemorySize") {
        THAW_TRY(info.memory_size, read_variant<std::uint64_t>(message, "MemorySize", "t"));
    } else if (key == "PageSize") {
        THAW_TRY(info.page_size, read_variant<std::uint64_t>(message, "PageSize", "t"));
    } else if (key == "OnPagerLoss") {
        THAW_TRY(
            const std::string_view word, read_variant<const char*>(message, "OnPagerLoss", "s")
        );
        if (word != "poison" && word != "stop") return invalid("OnPagerLoss: '{}'", word);
        info.policy = word == "poison" ? protocol::LossPolicy::Poison : protocol::LossPolicy::Stop;
    } else if (key == "Recording") {
        THAW_TRY(const int on, read_variant<int>(message, "Recording", "b"));
        if (on) info.flags |= protocol::kFlagRecording;
    } else if (key == "Track") {
        THAW_TRY(const int on, read_variant<int>(message, "Track", "b"));
        request.track = on != 0;
    } else if (key == "HandshakeTimeoutUSec") {
        THAW_TRY(
            request.handshake_timeout,
            read_variant<std::uint64_t>(message, "HandshakeTimeoutUSec", "t")
        );
        if (request.handshake_timeout == 0 || request.handshake_timeout > kLongestHandshake)
            return invalid("HandshakeTimeoutUSec is out of range");
    } else {
        THAW_TRY(const bool prefetch, read_prefetch_option(message, key, request.prefetch));
        if (prefetch) return {};
        THAW_TRY(const bool remote, read_remote_option(message, key, "Memory", request.remote));
        if (!remote) return invalid("unknown option '{}'", key);
    }
    return {};
}

Result<> read_options(BusMessage& message, CreateRequest& request) {
    return for_each_property(message, [&](std::string_view key) {
        return read_option(message, key, request);
    });
}

Result<> check_remote(const CreateRequest& request, const RemoteMemory& remote) {
    const auto& files = request.files;
    if (files.memory || files.layers) return invalid("a remote memory beside 'memory' or 'layers'");
    return check_remote_memory(
        remote, files.map, request.info.image_id != decltype(request.info.image_id){}
    );
}

// In bytes.
Result<std::uint64_t> size_of_memory(const CreateRequest& request) {
    if (request.remote) {
        THAW_CHECK(check_remote(request, *request.remote));
        return request.remote->identity.length;
    }
    if (!request.files.memory) return invalid("the file 'memory' is missing");
    struct stat status{};
    if (::fstat(request.files.memory.get(), &status) != 0)
        return fail_errno(errno, "stat the memory");
    if (!S_ISREG(status.st_mode)) return invalid("the file 'memory' is no regular file");
    return static_cast<std::uint64_t>(status.st_size);
}

// The memory file decides what can be served.
Result<> check_memory(CreateRequest& request) {
    auto& info = request.info;
    const auto& files = request.files;
    THAW_TRY(const std::uint64_t size, size_of_memory(request));
    if (static_cast<bool>(files.layers) == files.bases.empty() ||
        std::ranges::any_of(files.bases, [](const Fd& base) { return !base; }))
        return invalid("'layers' and 'base-1' to 'base-N' belong together");
    // Pages of a difference are told apart from its base's by checksums made over the whole.
    if (files.layers && !files.map) return invalid("'layers' without 'map'");
    if (info.memory_size == 0) info.memory_size = size;
    if (info.page_size != kSmallPage && info.page_size != kHugePage)
        return invalid("PageSize {} is neither 4096 nor 2097152", info.page_size);
    if (info.memory_size > size)
        return invalid("MemorySize {} is more than the file's {}", info.memory_size, size);
    if (info.memory_size == 0 || info.memory_size % info.page_size != 0 ||
        info.memory_size > protocol::kMaxMemorySize)
        return invalid("MemorySize {} is no number of whole pages", info.memory_size);
    return {};
}

} // namespace

bool is_valid_vmm_unit(std::string_view unit) {
    constexpr std::string_view kPunctuation = ":-_.\\@";
    constexpr std::size_t kLongest = 255;
    const bool known_kind = unit.ends_with(".service") || unit.ends_with(".scope");
    return known_kind && unit.size() <= kLongest &&
           std::all_of(unit.begin(), unit.end(), [&](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      kPunctuation.find(c) != std::string_view::npos;
           });
}

Result<> read_prefetch_options(BusMessage& message, protocol::PrefetchPolicy& policy) {
    return for_each_property(message, [&](std::string_view key) -> Result<> {
        THAW_TRY(const bool known, read_prefetch_option(message, key, policy));
        if (!known) return invalid("unknown option '{}'", key);
        return {};
    });
}

Result<CreateRequest> read_create_request(BusMessage& message, const Config& defaults) {
    CreateRequest request;
    request.handshake_timeout = defaults.handshake_timeout;
    request.prefetch = defaults.prefetch;
    const char* name = nullptr;
    const char* unit = nullptr;
    THAW_CHECK(message.read("ss", &name, &unit));
    if (!is_valid_vm_name(name)) return invalid("'{}' is no name of a VM", name);
    if (!is_valid_vmm_unit(unit)) return invalid("'{}' is no name of a VMM's unit", unit);
    request.info.name = name;
    request.info.unit = unit;
    THAW_CHECK(read_files(message, request));
    THAW_CHECK(read_options(message, request));
    THAW_CHECK(read_flags(message));
    THAW_CHECK(check_memory(request));
    auto& session = request.info;
    if (request.track && (session.flags & protocol::kFlagRecording) != 0)
        return invalid("a session records or tracks, not both");
    // What is loaded ahead would hide what the guest touches.
    if ((session.flags & protocol::kFlagRecording) != 0) request.prefetch.enabled = false;
    if (request.prefetch.enabled) session.flags |= protocol::kFlagPrefetch;
    return request;
}

} // namespace thaw::pagerd
