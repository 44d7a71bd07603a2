// SPDX-License-Identifier: MIT

#include "commands.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace thaw::virtiofs {

namespace {

std::string errno_name(int number) {
    const char* name = strerrorname_np(number);
    return name != nullptr ? name : std::to_string(number);
}

nlohmann::json describe(const fuse_attr& attr) {
    return {{"inode", attr.ino}, {"size", attr.size}, {"mode", attr.mode},
            {"uid", attr.uid},   {"gid", attr.gid},   {"links", attr.nlink}};
}

nlohmann::json done() {
    return nlohmann::json::object();
}

} // namespace

nlohmann::json failure(const Error& error, bool gone) {
    return {
        {"ok", false},
        {"errno", errno_name(error.code())},
        {"error", error.message()},
        {"gone", gone}
    };
}

nlohmann::json Commands::greeting() const {
    const auto& terms = client_->terms();
    const auto& offer = client_->offer();
    return {
        {"ok", true},
        {"fuse", fmt::format("{}.{}", terms.major, terms.minor)},
        {"max_write", terms.max_write},
        {"queues", offer.queues},
        {"features", offer.features},
        {"protocol_features", offer.protocol_features}
    };
}

nlohmann::json Commands::run(std::string_view line) {
    auto document = JsonDocument::parse(line);
    if (!document) return failure(document.error(), client_->gone());
    auto answer = dispatch(document->root());
    if (!answer) return failure(answer.error(), client_->gone());
    (*answer)["ok"] = true;
    return *answer;
}

Commands::Answer Commands::dispatch(const JsonView& command) {
    struct Row {
        std::string_view name;
        Answer (Commands::*run)(const JsonView&);
    };
    static constexpr std::array kRows{
        Row{"look", &Commands::look},       Row{"list", &Commands::list},
        Row{"walk", &Commands::walk},       Row{"forget", &Commands::forget},
        Row{"read", &Commands::read},       Row{"write", &Commands::write},
        Row{"create", &Commands::create},   Row{"open", &Commands::open},
        Row{"close", &Commands::close},     Row{"mkdir", &Commands::make_directory},
        Row{"remove", &Commands::remove},   Row{"rename", &Commands::rename},
        Row{"change", &Commands::change},   Row{"statfs", &Commands::file_system},
        Row{"stream", &Commands::stream},   Row{"user", &Commands::set_user},
        Row{"garbage", &Commands::garbage},
    };
    THAW_TRY(const auto name, command.string("op"));
    const auto* row = std::ranges::find(kRows, name, &Row::name);
    if (row == kRows.end()) return fail(EINVAL, "there is no command '{}'", name);
    return (this->*row->run)(command);
}

Commands::Answer Commands::look(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const auto entry, tree_.find(path));
    auto answer = describe(entry.attr);
    answer["node"] = entry.nodeid;
    return answer;
}

Commands::Answer Commands::list(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const bool plus, command.boolean_or("plus", false));
    THAW_TRY(const auto folder, tree_.find(path));
    THAW_TRY(const auto entries, client_->list(folder.nodeid, plus));
    auto names = nlohmann::json::array();
    for (const auto& entry : entries) {
        names.push_back(entry.name);
        if (entry.entry.nodeid != 0) tree_.note(entry.entry.nodeid);
    }
    return nlohmann::json{{"names", names}};
}

Commands::Answer Commands::walk(const JsonView& command) {
    WalkOptions options;
    THAW_TRY(const auto path, command.string_or("path", "/"));
    THAW_TRY(options.plus, command.boolean_or("plus", false));
    THAW_TRY(options.open, command.boolean_or("open", false));
    THAW_TRY(options.limit, command.unsigned_or("limit", UINT64_MAX));
    THAW_TRY(const auto report, tree_.walk(path, options));
    auto errors = nlohmann::json::object();
    for (const auto& [number, count] : report.errors)
        errors[errno_name(number)] = count;
    return nlohmann::json{
        {"nodes", report.nodes},
        {"names", report.names},
        {"known", tree_.size()},
        {"errors", errors},
        {"us", report.duration}
    };
}

Commands::Answer Commands::forget(const JsonView& command) {
    THAW_TRY(const bool batch, command.boolean_or("batch", true));
    THAW_TRY(const auto newest, command.unsigned_or("newest", UINT64_MAX));
    THAW_TRY(const auto count, tree_.forget_newest(newest, batch));
    // Nothing answers a FORGET: a request behind them proves that the daemon serves on.
    THAW_CHECK(client_->attributes(kRootNode));
    return nlohmann::json{{"nodes", count}};
}

Commands::Answer Commands::read(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const auto limit, command.unsigned_or("limit", 1 << 20));
    THAW_TRY(const auto entry, tree_.find(path));
    THAW_TRY(const auto file, client_->open(entry.nodeid, O_RDONLY));
    auto text = client_->read(file, 0, static_cast<std::uint32_t>(limit));
    if (!client_->gone()) THAW_CHECK(client_->release(file));
    if (!text) return std::unexpected(std::move(text).error());
    return nlohmann::json{{"data", *text}};
}

Commands::Answer Commands::write(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const auto data, command.string("data"));
    THAW_TRY(const auto offset, command.unsigned_or("offset", 0));
    THAW_TRY(const auto entry, tree_.find(path));
    THAW_TRY(const auto file, client_->open(entry.nodeid, O_WRONLY));
    auto written = client_->write(file, offset, data);
    if (!client_->gone()) THAW_CHECK(client_->release(file));
    if (!written) return std::unexpected(std::move(written).error());
    return nlohmann::json{{"written", *written}};
}

Commands::Answer Commands::create(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const auto data, command.string_or("data", ""));
    THAW_TRY(const auto mode, command.unsigned_or("mode", 0644));
    THAW_TRY(const auto place, tree_.parent_of(path));
    THAW_TRY(
        const auto created,
        client_->create(
            place.first, place.second, O_RDWR | O_EXCL, static_cast<std::uint32_t>(mode)
        )
    );
    tree_.note(created.first.nodeid);
    Result<std::uint32_t> written = 0;
    if (!data.empty()) written = client_->write(created.second, 0, data);
    if (!client_->gone()) THAW_CHECK(client_->release(created.second));
    if (!written) return std::unexpected(std::move(written).error());
    auto answer = describe(created.first.attr);
    answer["written"] = *written;
    return answer;
}

Commands::Answer Commands::open(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const bool writing, command.boolean_or("write", false));
    THAW_TRY(const auto entry, tree_.find(path));
    THAW_TRY(const auto file, client_->open(entry.nodeid, writing ? O_RDWR : O_RDONLY));
    const auto id = next_file_++;
    open_files_[id] = file;
    return nlohmann::json{{"file", id}};
}

Commands::Answer Commands::close(const JsonView& command) {
    THAW_TRY(const auto id, command.unsigned_number("file"));
    const auto found = open_files_.find(id);
    if (found == open_files_.end()) return fail(EBADF, "there is no file {}", id);
    const auto file = found->second;
    open_files_.erase(found);
    THAW_CHECK(client_->release(file));
    return done();
}

Commands::Answer Commands::make_directory(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const auto place, tree_.parent_of(path));
    THAW_TRY(const auto entry, client_->make_directory(place.first, place.second, 0755));
    tree_.note(entry.nodeid);
    return describe(entry.attr);
}

Commands::Answer Commands::remove(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const bool directory, command.boolean_or("directory", false));
    // A kernel has looked up what it removes or renames; the C daemon relies on that.
    THAW_CHECK(tree_.find(path));
    THAW_TRY(const auto place, tree_.parent_of(path));
    THAW_CHECK(client_->remove(directory ? FUSE_RMDIR : FUSE_UNLINK, place.first, place.second));
    return done();
}

Commands::Answer Commands::rename(const JsonView& command) {
    THAW_TRY(const auto from, command.string("from"));
    THAW_TRY(const auto to, command.string("to"));
    THAW_CHECK(tree_.find(from));
    THAW_TRY(const auto source, tree_.parent_of(from));
    THAW_TRY(const auto target, tree_.parent_of(to));
    THAW_CHECK(client_->rename(source.first, source.second, target.first, target.second));
    return done();
}

Commands::Answer Commands::change(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const auto entry, tree_.find(path));
    fuse_setattr_in in{};
    if (command.has("mode")) {
        in.valid |= FATTR_MODE;
        THAW_TRY(const auto mode, command.unsigned_number("mode"));
        in.mode = static_cast<std::uint32_t>(mode);
    }
    if (command.has("size")) {
        in.valid |= FATTR_SIZE;
        THAW_TRY(in.size, command.unsigned_number("size"));
    }
    THAW_TRY(const auto attr, client_->change(entry.nodeid, in));
    return describe(attr);
}

Commands::Answer Commands::file_system(const JsonView& command) {
    THAW_TRY(const auto path, command.string_or("path", "/"));
    THAW_TRY(const auto entry, tree_.find(path));
    THAW_TRY(const auto state, client_->file_system(entry.nodeid));
    return nlohmann::json{
        {"blocks", state.blocks}, {"free", state.bfree}, {"block_size", state.bsize}
    };
}

Commands::Answer Commands::stream(const JsonView& command) {
    THAW_TRY(const auto path, command.string("path"));
    THAW_TRY(const bool writing, command.boolean_or("write", false));
    THAW_TRY(const auto bytes, command.unsigned_number("bytes"));
    THAW_TRY(const auto block, command.unsigned_or("block", 128 << 10));
    THAW_TRY(const auto depth, command.unsigned_or("depth", 4));
    if (block == 0 || block > UINT32_MAX) return fail(EINVAL, "block {}", block);
    THAW_TRY(const auto entry, tree_.find(path));
    THAW_TRY(const auto file, client_->open(entry.nodeid, writing ? O_RDWR : O_RDONLY));
    const auto begin = now_monotonic();
    auto streamed = client_->stream(
        file, writing, bytes / block, static_cast<std::uint32_t>(block),
        static_cast<unsigned>(depth)
    );
    const auto duration = now_monotonic() - begin;
    if (!client_->gone()) THAW_CHECK(client_->release(file));
    if (!streamed) return std::unexpected(std::move(streamed).error());
    return nlohmann::json{{"bytes", bytes / block * block}, {"us", duration}};
}

Commands::Answer Commands::set_user(const JsonView& command) {
    THAW_TRY(const auto uid, command.unsigned_number("uid"));
    THAW_TRY(const auto gid, command.unsigned_number("gid"));
    client_->set_user(static_cast<std::uint32_t>(uid), static_cast<std::uint32_t>(gid));
    return done();
}

Commands::Answer Commands::garbage(const JsonView& /*command*/) {
    THAW_CHECK(client_->send_garbage());
    return done();
}

} // namespace thaw::virtiofs
