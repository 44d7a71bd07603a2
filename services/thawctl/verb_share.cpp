// SPDX-License-Identifier: MIT

// share add, open, list, status, remove, raise-limit, drop-caches.

#include "api/shares1.hpp"
#include "client.hpp"
#include "exit_codes.hpp"
#include "fields.hpp"
#include "share_request.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

namespace {

// Bringing a share up starts two units; a busy machine may need a while.
constexpr Microseconds kAddTimeout = 120 * kUsecPerSec;

struct ListedShare {
    std::string name;
    std::string tag;
    std::string source;
    std::string state;
    std::string level;
    std::string path;
};

Result<std::vector<ListedShare>> listed_shares(Client& client) {
    THAW_TRY(
        auto reply,
        client.simple(
            shares1::kBusName, shares1::kPath, shares1::kManagerInterface, "ListShares", ""
        )
    );
    std::vector<ListedShare> shares;
    auto read = for_each_struct(reply, "ssssso", [&](BusMessage& message) -> Result<> {
        const char* texts[6] = {};
        THAW_CHECK(
            message.read("ssssso", &texts[0], &texts[1], &texts[2], &texts[3], &texts[4], &texts[5])
        );
        shares.push_back({texts[0], texts[1], texts[2], texts[3], texts[4], texts[5]});
        return {};
    });
    if (!read) return std::unexpected(std::move(read).error());
    return shares;
}

Color color_of_budget(std::string_view level) {
    if (level == "normal") return Color::Good;
    if (level == "critical") return Color::Bad;
    return level.empty() ? Color::None : Color::Warning;
}

Color color_of_share(std::string_view state) {
    if (state == "listening" || state == "connected") return Color::Good;
    if (state == "failed" || state == "exhausted") return Color::Bad;
    return state == "backoff" ? Color::Warning : Color::None;
}

// UINT64_MAX stands for what is not known.
std::string number_or_unknown(std::uint64_t value) {
    return value == UINT64_MAX ? "unknown" : std::to_string(value);
}

std::string used_of(const Properties& share) {
    return fmt::format(
        "{}/{}", number_or_unknown(share.number("Descriptors")), share.number("DescriptorBudget")
    );
}

std::string memory_of(const Properties& share) {
    const auto size = share.number("MemoryRSS");
    return size == UINT64_MAX ? "unknown" : format_size(size);
}

Result<Properties> share_properties(Client& client, const std::string& path) {
    return client.properties(shares1::kBusName, path, shares1::kShareInterface);
}

Result<std::string> share_path(Client& client, const std::string& name, const std::string& tag) {
    THAW_TRY(
        auto reply, client.simple(
                        shares1::kBusName, shares1::kPath, shares1::kManagerInterface, "GetShare",
                        "ss", name.c_str(), tag.c_str()
                    )
    );
    const char* path = nullptr;
    THAW_CHECK(reply.read("o", &path));
    return std::string(path);
}

std::string limit_line(const Properties& share) {
    const auto asked = share.number("LimitNOFILE");
    const auto real = share.number("EffectiveLimit");
    if (real == 0) return fmt::format("{} asked for", asked);
    return share.flag("Degraded") ? fmt::format("{}, less than the {} asked for", real, asked)
                                  : std::to_string(real);
}

void add_descriptors(Fields& fields, const Properties& share) {
    const auto level = share.text("DescriptorLevel");
    auto line = fmt::format("{} used, {}", used_of(share), level);
    if (const auto left = share.number("ExhaustionUSec"); left != UINT64_MAX)
        line += fmt::format(", used up in {}", format_timespan(left));
    fields.add("Descriptors", line, color_of_budget(level));
    fields.add("Limit", limit_line(share), share.flag("Degraded") ? Color::Warning : Color::None);
    auto handles = share.text("InodeFileHandles");
    if (const auto reason = share.text("FileHandlesReason"); !reason.empty())
        handles += fmt::format(" ({})", reason);
    fields.add("File handles", handles);
}

void add_memory(Fields& fields, const Properties& share) {
    auto line = memory_of(share);
    if (const auto high = share.number("MemoryHigh"); high != UINT64_MAX)
        line += fmt::format(" of {}", format_size(high));
    fields.add("Memory", fmt::format("{}, {}", line, share.text("MemoryLevel")));
}

std::string describe_share(const Properties& share) {
    const auto state = share.text("State");
    Fields fields;
    fields.add("State", state, color_of_share(state));
    if (const auto name = share.text("ErrorName"); !name.empty())
        fields.add(
            "Error", fmt::format("{}: {}", short_error_name(name), share.text("ErrorMessage")),
            Color::Bad
        );
    fields.add("Source", share.text("Source") + (share.flag("ReadOnly") ? " (read-only)" : ""));
    fields.add("Socket", share.text("Socket"));
    fields.add("Unit", share.text("Unit"));
    fields.add("VM unit", share.text("VmUnit"));
    if (share.number("MainPID") != 0)
        fields.add(
            "Daemon", fmt::format(
                          "PID {}, {} dialect, cache {}, sandbox {}, {} restarts",
                          share.number("MainPID"), share.text("Dialect"), share.text("Cache"),
                          share.text("Sandbox"), share.number("NRestarts")
                      )
        );
    add_descriptors(fields, share);
    add_memory(fields, share);
    const auto found = share.values.find("Remedies");
    if (found != share.values.end() && found->second.is_array()) {
        std::string remedies;
        for (const auto& remedy : found->second)
            if (remedy.is_string())
                remedies += (remedies.empty() ? "" : ", ") + remedy.get<std::string>();
        fields.add("What helps", remedies, Color::Warning);
    }
    const auto dot = wants_color(1) ? colored(color_of_share(state), "●") : "●";
    return fmt::format(
        "{} {}:{} - thaw share\n{}", dot, printable(share.text("Name")),
        printable(share.text("Tag")), fields.text()
    );
}

struct AddedShare {
    std::string path;
    std::string socket;
};

Result<AddedShare> add_share(const ShareArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(
        auto message,
        client.new_call(shares1::kBusName, shares1::kPath, shares1::kManagerInterface, "AddShare")
    );
    THAW_CHECK(append_share_request(message, arguments));
    THAW_TRY(auto reply, client.call(message, options.ask_password ? 0 : kAddTimeout));
    const char* path = nullptr;
    const char* socket = nullptr;
    THAW_CHECK(reply.read("os", &path, &socket));
    return AddedShare{path, socket};
}

void print_added(
    const ShareArguments& arguments, const AddedShare& added, const OutputOptions& options
) {
    print_json(
        {{"name", arguments.name},
         {"tag", arguments.tag},
         {"socket", added.socket},
         {"object", added.path}},
        options.json
    );
}

} // namespace

Result<int> verb_share_add(const ShareArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const auto added, add_share(arguments, options));
    if (options.json != JsonMode::Off)
        print_added(arguments, added, options);
    else
        fmt::print(
            "Share \"{}\" of \"{}\" is ready at {}\n", printable(arguments.tag),
            printable(arguments.name), printable(added.socket)
        );
    return kExitOk;
}

Result<int> verb_share_open(const ShareArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const auto added, add_share(arguments, options));
    if (options.json != JsonMode::Off)
        print_added(arguments, added, options);
    else
        fmt::print("{}\n", added.socket); // alone, for $(...)
    return kExitOk;
}

Result<int> verb_share_list(const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(const auto shares, listed_shares(client));
    Table table(
        {{"NAME"},
         {"TAG"},
         {"STATE"},
         {"LEVEL"},
         {"DESCRIPTORS", Align::Right},
         {"MEMORY", Align::Right},
         {"HANDLES"},
         {"SOURCE"}}
    );
    auto rows = nlohmann::json::array();
    for (const auto& share : shares) {
        // A share may end between the two calls: the rest is unknown then.
        const auto found = share_properties(client, share.path);
        const auto known = found.value_or(Properties{});
        table.add(
            {share.name,
             share.tag,
             {share.state, color_of_share(share.state)},
             {share.level, color_of_budget(share.level)},
             found ? used_of(known) : std::string(),
             found ? memory_of(known) : std::string(),
             known.text("InodeFileHandles"),
             share.source}
        );
        rows.push_back(
            {{"name", share.name},
             {"tag", share.tag},
             {"source", share.source},
             {"state", share.state},
             {"level", share.level},
             {"object", share.path},
             {"properties", known.values}}
        );
    }
    print_table(table, rows, "shares", options);
    return kExitOk;
}

Result<int> verb_share_status(const ShareArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    std::vector<std::string> paths;
    if (!arguments.tag.empty()) {
        THAW_TRY(auto path, share_path(client, arguments.name, arguments.tag));
        paths.push_back(std::move(path));
    } else {
        THAW_TRY(const auto shares, listed_shares(client));
        for (const auto& share : shares)
            if (share.name == arguments.name) paths.push_back(share.path);
        if (paths.empty())
            return fail_named(
                shares1::error::kNoSuchShare, ENXIO, "\"{}\" has no share", arguments.name
            );
    }
    std::string text;
    auto values = nlohmann::json::array();
    for (const auto& path : paths) {
        THAW_TRY(const auto share, share_properties(client, path));
        values.push_back(share.values);
        text += (text.empty() ? "" : "\n") + describe_share(share);
    }
    if (options.json != JsonMode::Off)
        print_json(values, options.json);
    else
        print_text(text, options);
    return kExitOk;
}

Result<int> verb_share_remove(const ShareArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    const std::uint64_t flags = arguments.force ? shares1::kRemoveForce : 0;
    THAW_TRY(
        auto message,
        client.new_call(
            shares1::kBusName, shares1::kPath, shares1::kManagerInterface, "RemoveShare"
        )
    );
    THAW_CHECK(message.append("sst", arguments.name.c_str(), arguments.tag.c_str(), flags));
    THAW_CHECK(client.call(message, options.ask_password ? 0 : kAddTimeout));
    return kExitOk;
}

Result<int> verb_share_raise_limit(const ShareArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(const auto limit, parse_unsigned(arguments.limit));
    THAW_TRY(const auto path, share_path(client, arguments.name, arguments.tag));
    THAW_CHECK(
        client.simple(shares1::kBusName, path, shares1::kShareInterface, "RaiseLimit", "t", limit)
    );
    return kExitOk;
}

Result<int> verb_share_drop_caches(const ShareArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(const auto path, share_path(client, arguments.name, arguments.tag));
    THAW_CHECK(client.simple(shares1::kBusName, path, shares1::kShareInterface, "DropCaches", ""));
    return kExitOk;
}

} // namespace thaw::ctl
