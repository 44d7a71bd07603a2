// SPDX-License-Identifier: MIT
#include "command_line.hpp"

#include "page_content.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <functional>
#include <map>
#include <stdexcept>

namespace thaw::standin {
namespace {

constexpr const char* help_text = R"(Usage:
  thaw-standin-vmm --api-sock PATH [--id ID] [--profile FILE]
  thaw-standin-vmm --make-snapshot DIR --memory-mib N [OPTION...]
  thaw-standin-vmm --hash FILE

A test program that speaks Firecracker's API and userfaultfd protocol. It is no VMM.

  --api-sock PATH      serve the API on this UNIX socket (must not exist)
  --id ID              instance id
  --profile FILE       how to behave, JSON (tests/vmm/README.md lists the keys)

  --make-snapshot DIR  write DIR/vmstate and DIR/memory
  --memory-mib N       guest RAM
  --page-size N        4096 (default) or 2097152
  --seed N             content of the memory (default 1)
  --zero-percent N     share of zero pages (default 25)
  --vcpus N            vCPUs of the guest (default 1)
  --no-balloon         the guest has no balloon
  --drive PATH         name a drive, relative to the VMM's working directory (repeatable)
  --vsock PATH         name a vsock socket
  --net ID=DEV         name a network interface (repeatable)
  --guest JSON         default parameters of the guest
  --sparse             leave zero runs as holes of the file

  --hash FILE          print the digest of a memory file, as PUT /standin/hash answers it
  --help, --version
)";

void add_interface(CommandLine& options, const std::string& value) {
    const std::size_t equal = value.find('=');
    if (equal == std::string::npos) {
        throw std::invalid_argument("must be ID=DEV");
    }
    options.state.interfaces.push_back({value.substr(0, equal), value.substr(equal + 1)});
}

void add_drive(CommandLine& options, const std::string& value) {
    const std::string id = fmt::format("drive{}", options.state.drives.size());
    options.state.drives.push_back({id, value, false});
}

using Setter = std::function<void(CommandLine&, const std::string&)>;

const std::map<std::string, Setter>& value_options() {
    auto tool = [](CommandLine::Mode mode) {
        return [mode](CommandLine& o, const std::string& v) {
            o.mode = mode;
            o.target = v;
        };
    };
    static const std::map<std::string, Setter> table = {
        {"--api-sock", [](auto& o, auto& v) { o.api_socket = v; }},
        {"--id", [](auto& o, auto& v) { o.id = v; }},
        {"--profile", [](auto& o, auto& v) { o.profile = v; }},
        {"--make-snapshot", tool(CommandLine::Mode::make_snapshot)},
        {"--hash", tool(CommandLine::Mode::hash)},
        {"--memory-mib", [](auto& o, auto& v) { o.state.memory_mib = std::stoull(v); }},
        {"--page-size", [](auto& o, auto& v) { o.state.page_size = std::stoull(v); }},
        {"--seed", [](auto& o, auto& v) { o.state.recipe->seed = std::stoull(v); }},
        {"--zero-percent",
         [](auto& o, auto& v) {
             o.state.recipe->zero_percent = static_cast<unsigned>(std::stoul(v));
         }},
        {"--vcpus", [](auto& o, auto& v) { o.state.vcpus = static_cast<unsigned>(std::stoul(v)); }},
        {"--drive", add_drive},
        {"--vsock", [](auto& o, auto& v) { o.state.vsock_path = v; }},
        {"--net", add_interface},
        {"--guest", [](auto& o, auto& v) { o.state.guest = nlohmann::json::parse(v); }},
    };
    return table;
}

const std::map<std::string, std::function<void(CommandLine&)>>& flags() {
    static const std::map<std::string, std::function<void(CommandLine&)>> table = {
        {"--help", [](auto& o) { o.mode = CommandLine::Mode::help; }},
        {"-h", [](auto& o) { o.mode = CommandLine::Mode::help; }},
        {"--version", [](auto& o) { o.mode = CommandLine::Mode::version; }},
        {"--no-balloon", [](auto& o) { o.state.balloon = false; }},
        {"--sparse", [](auto& o) { o.sparse = true; }},
    };
    return table;
}

int print_hash(const std::string& path) {
    Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info{};
    if (!file || ::fstat(file.get(), &info) != 0) {
        fmt::print(stderr, "thaw-standin-vmm: {}: cannot be read\n", path);
        return 1;
    }
    std::uint64_t digest = 0;
    std::uint8_t page[small_page];
    const auto pages = static_cast<std::uint64_t>(info.st_size) / small_page;
    for (std::uint64_t i = 0; i < pages; ++i) {
        if (::pread(file.get(), page, small_page, static_cast<off_t>(i * small_page)) !=
            static_cast<ssize_t>(small_page)) {
            fmt::print(stderr, "thaw-standin-vmm: {}: short read\n", path);
            return 1;
        }
        digest = combine_digest(digest, page_digest(page));
    }
    fmt::print("{:016x}\n", digest);
    return 0;
}

} // namespace

Result<CommandLine> parse_command_line(int argc, char** argv) {
    CommandLine options;
    options.state.recipe.emplace();
    for (int i = 1; i < argc; ++i) {
        std::string name = argv[i];
        if (const auto flag = flags().find(name); flag != flags().end()) {
            flag->second(options);
            continue;
        }
        std::string value;
        if (const std::size_t equal = name.find('=');
            name.starts_with("--") && equal != std::string::npos) {
            value = name.substr(equal + 1);
            name.resize(equal);
        } else if (i + 1 < argc) {
            value = argv[++i];
        } else {
            return fail(fmt::format("{}: unknown option or missing value", name));
        }
        const auto setter = value_options().find(name);
        if (setter == value_options().end()) {
            return fail(fmt::format("{}: unknown option", name));
        }
        try {
            setter->second(options, value);
        } catch (const std::exception& error) {
            return fail(fmt::format("{}: {}", name, error.what()));
        }
    }
    if (options.mode == CommandLine::Mode::serve && options.api_socket.empty()) {
        return fail("--api-sock is required");
    }
    return options;
}

int run_tool(const CommandLine& options) {
    if (options.mode == CommandLine::Mode::help) {
        fmt::print("{}", help_text);
        return 0;
    }
    if (options.mode == CommandLine::Mode::version) {
        fmt::print("thaw-standin-vmm 1 (test program, speaks Firecracker 1.1 to 1.17)\n");
        return 0;
    }
    if (options.mode == CommandLine::Mode::hash) {
        return print_hash(options.target);
    }
    if (auto valid = parse_state(format_state(options.state)); !valid) {
        fmt::print(stderr, "thaw-standin-vmm: {}\n", valid.error());
        return 2;
    }
    if (auto done = make_snapshot(options.state, options.target, options.sparse); !done) {
        fmt::print(stderr, "thaw-standin-vmm: {}\n", done.error());
        return 1;
    }
    return 0;
}

} // namespace thaw::standin
