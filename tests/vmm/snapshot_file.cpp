// SPDX-License-Identifier: MIT
#include "snapshot_file.hpp"

#include "guest_memory.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <thread>
#include <vector>

namespace thaw::standin {
namespace {

constexpr const char* magic = "thaw-standin-vmm-snapshot";
constexpr int format_version = 1;

using nlohmann::json;

Result<void> write_all(int fd, const char* data, std::size_t size, off_t offset) {
    while (size > 0) {
        const ssize_t done = ::pwrite(fd, data, size, offset);
        if (done < 0) {
            return fail(os_error(errno));
        }
        data += done;
        size -= static_cast<std::size_t>(done);
        offset += done;
    }
    return {};
}

SnapshotState from_json(const json& document) {
    SnapshotState state;
    state.memory_mib = document.at("memory_mib").get<std::uint64_t>();
    state.page_size = document.at("page_size").get<std::uint64_t>();
    state.vcpus = document.value("vcpus", 1U);
    state.balloon = document.value("balloon", true);
    if (document.contains("recipe")) {
        const json& recipe = document.at("recipe");
        state.recipe = ImageRecipe{
            recipe.at("seed").get<std::uint64_t>(), recipe.at("zero_percent").get<unsigned>()
        };
    }
    for (const json& drive : document.value("drives", json::array())) {
        state.drives.push_back(
            {drive.at("drive_id").get<std::string>(), drive.at("path_on_host").get<std::string>(),
             drive.value("is_read_only", false)}
        );
    }
    if (document.contains("vsock")) {
        state.vsock_path = document.at("vsock").at("uds_path").get<std::string>();
    }
    for (const json& interface : document.value("network_interfaces", json::array())) {
        state.interfaces.push_back(
            {interface.at("iface_id").get<std::string>(),
             interface.at("host_dev_name").get<std::string>()}
        );
    }
    state.guest = document.value("guest", json());
    return state;
}

/// Writes the pages of one slice; each thread has its own.
Result<void> write_slice(
    int fd, const ImageRecipe& recipe, std::uint64_t first, std::uint64_t last, bool sparse
) {
    constexpr std::uint64_t batch = 256;
    std::vector<std::uint8_t> buffer(batch * small_page);
    for (std::uint64_t page = first; page < last; page += batch) {
        const std::uint64_t count = std::min(batch, last - page);
        bool all_zero = true;
        for (std::uint64_t i = 0; i < count; ++i) {
            recipe.fill(page + i, buffer.data() + i * small_page);
            all_zero = all_zero && recipe.is_zero(page + i);
        }
        if (sparse && all_zero) {
            continue;
        }
        auto done = write_all(
            fd, reinterpret_cast<const char*>(buffer.data()), count * small_page,
            static_cast<off_t>(page * small_page)
        );
        if (!done) {
            return done;
        }
    }
    return {};
}

} // namespace

Result<SnapshotState> parse_state(const std::string& text) {
    const json document = json::parse(text, nullptr, false);
    if (!document.is_object() || document.value("magic", json()) != magic) {
        return fail("Failed to deserialize snapshot: bad magic value");
    }
    if (document.value("format_version", json()) != format_version) {
        return fail("Failed to deserialize snapshot: unsupported snapshot version");
    }
    try {
        SnapshotState state = from_json(document);
        if (state.memory_mib == 0 || state.memory_mib > (1U << 20) || state.vcpus == 0 ||
            (state.page_size != small_page && state.page_size != 2U << 20) ||
            state.memory_bytes() % state.page_size != 0) {
            return fail("Invalid snapshot state: memory or vCPUs out of range");
        }
        return state;
    } catch (const json::exception& error) {
        return fail(fmt::format("Failed to deserialize snapshot: {}", error.what()));
    }
}

Result<SnapshotState> load_state(const std::string& path) {
    auto text = read_file(path);
    if (!text) {
        return fail("Failed to open snapshot file: " + text.error());
    }
    return parse_state(*text);
}

std::string format_state(const SnapshotState& state) {
    json document = {
        {"magic", magic},
        {"format_version", format_version},
        {"memory_mib", state.memory_mib},
        {"page_size", state.page_size},
        {"vcpus", state.vcpus},
        {"balloon", state.balloon}
    };
    for (const RegionLayout& region : layout_of(state.memory_bytes())) {
        document["regions"].push_back(
            {{"guest_address", region.guest_address},
             {"size", region.size},
             {"offset", region.offset}}
        );
    }
    if (state.recipe) {
        document["recipe"] = {
            {"seed", state.recipe->seed}, {"zero_percent", state.recipe->zero_percent}
        };
    }
    for (const auto& drive : state.drives) {
        document["drives"].push_back(
            {{"drive_id", drive.drive_id},
             {"path_on_host", drive.path},
             {"is_read_only", drive.read_only}}
        );
    }
    if (state.vsock_path) {
        document["vsock"] = {{"uds_path", *state.vsock_path}};
    }
    for (const auto& interface : state.interfaces) {
        document["network_interfaces"].push_back(
            {{"iface_id", interface.iface_id}, {"host_dev_name", interface.host_dev_name}}
        );
    }
    if (!state.guest.is_null()) {
        document["guest"] = state.guest;
    }
    return document.dump(2) + "\n";
}

Result<void> save_state(const SnapshotState& state, const std::string& path) {
    Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) {
        return fail(os_error(errno));
    }
    const std::string text = format_state(state);
    return write_all(file.get(), text.data(), text.size(), 0);
}

Result<void> make_snapshot(const SnapshotState& state, const std::string& directory, bool sparse) {
    if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
        return fail(directory + ": " + os_error(errno));
    }
    const std::string path = directory + "/memory";
    Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(state.memory_bytes())) != 0) {
        return fail(path + ": " + os_error(errno));
    }
    const std::uint64_t pages = state.memory_bytes() / small_page;
    const std::uint64_t workers = std::max(1U, std::min(8U, std::thread::hardware_concurrency()));
    std::vector<Result<void>> results(workers);
    {
        std::vector<std::jthread> threads;
        for (std::uint64_t i = 0; i < workers; ++i) {
            threads.emplace_back([&, i] {
                results[i] = write_slice(
                    file.get(), *state.recipe, pages * i / workers, pages * (i + 1) / workers,
                    sparse
                );
            });
        }
    }
    for (const auto& result : results) {
        if (!result) {
            return fail(path + ": " + result.error());
        }
    }
    return save_state(state, directory + "/vmstate");
}

} // namespace thaw::standin
