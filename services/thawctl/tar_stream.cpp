// SPDX-License-Identifier: MIT

#include "tar_stream.hpp"

#include "core/file.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>

namespace thaw::ctl {

namespace {

constexpr std::size_t kBufferSize = 128UL * 1024;
// Deeper than any cache; each level holds a descriptor.
constexpr unsigned kMaxDepth = 256;

struct Item {
    std::string name; // in its folder
    std::string path; // from the top
    struct stat status{};
    int directory = -1; // the folder's descriptor
};

// What was listed a moment ago and is not there now has changed; it is not "missing".
std::unexpected<Error> gone_or(int code, const std::string& path) {
    if (code == ENOENT) return fail(ESTALE, "{} vanished while it was read", path);
    return fail_errno(code, "{}", path);
}

// Calls `visit` for everything below, folders before what is in them, in the order of names.
class Walker {
public:
    explicit Walker(std::function<Result<>(const Item&)> visit) : visit_(std::move(visit)) {}

    Result<> walk(int directory, const std::string& prefix, unsigned depth) {
        if (depth > kMaxDepth) return fail(ELOOP, "{}: more than {} levels", prefix, kMaxDepth);
        THAW_TRY(const auto names, names_of(directory, prefix));
        for (const auto& name : names) {
            Item item{
                name, prefix.empty() ? name : fmt::format("{}/{}", prefix, name), {}, directory
            };
            if (fstatat(directory, name.c_str(), &item.status, AT_SYMLINK_NOFOLLOW) < 0)
                return gone_or(errno, item.path);
            THAW_CHECK(visit_(item));
            if (!S_ISDIR(item.status.st_mode)) continue;
            THAW_TRY(
                const auto inner,
                open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK)
            );
            auto walked = walk(inner.get(), item.path, depth + 1);
            if (!walked) return walked;
        }
        return {};
    }

private:
    static Result<std::vector<std::string>> names_of(int directory, const std::string& path) {
        // A second open file: readdir() moves the offset, and the first one may be walked twice.
        THAW_TRY(auto copy, open_at(directory, ".", O_RDONLY | O_DIRECTORY));
        const auto close = [](DIR* stream) { closedir(stream); };
        const std::unique_ptr<DIR, decltype(close)> stream(fdopendir(copy.get()), close);
        if (!stream) return fail_errno(errno, "{}", path);
        (void)copy.release(); // the stream's now
        std::vector<std::string> names;
        for (;;) {
            errno = 0;
            const auto* entry = readdir(stream.get()); // NOLINT(concurrency-mt-unsafe): one thread
            if (entry == nullptr) break;
            const std::string_view name = entry->d_name;
            if (name != "." && name != "..") names.emplace_back(name);
        }
        if (errno != 0) return fail_errno(errno, "{}", path.empty() ? "." : path);
        std::ranges::sort(names);
        return names;
    }

    std::function<Result<>(const Item&)> visit_;
};

using EntryOwner = std::unique_ptr<archive_entry, decltype(&archive_entry_free)>;

class Writer {
public:
    explicit Writer(const TarOptions& options) : options_(options) {}

    Result<TarOutcome> run(int directory) {
        THAW_CHECK(open());
        Walker walker([this](const Item& item) { return add(item); });
        THAW_CHECK(walker.walk(directory, "", 0));
        THAW_CHECK(add_end());
        THAW_CHECK(checked(archive_write_close(archive_.get())));
        return outcome_;
    }

private:
    Result<> open() {
        if (!archive_) return fail(ENOMEM, "libarchive");
        THAW_CHECK(checked(archive_write_set_format_pax_restricted(archive_.get())));
        // Whole blocks, and no padding beyond the format's own.
        THAW_CHECK(checked(archive_write_set_bytes_per_block(archive_.get(), kBufferSize)));
        THAW_CHECK(checked(archive_write_set_bytes_in_last_block(archive_.get(), 1)));
        return checked(archive_write_open2(
            archive_.get(), this, nullptr,
            [](archive* self, void* data, const void* buffer, size_t size) -> la_ssize_t {
                return static_cast<Writer*>(data)->pass_on(self, buffer, size);
            },
            nullptr, nullptr
        ));
    }

    la_ssize_t pass_on(archive* self, const void* buffer, std::size_t size) {
        auto passed = options_.sink({static_cast<const std::byte*>(buffer), size});
        if (passed) return static_cast<la_ssize_t>(size);
        archive_set_error(self, passed.error().code(), "%s", passed.error().message().c_str());
        sink_error_ = std::move(passed).error();
        return -1;
    }

    // What the sink said is more telling than what libarchive makes of it.
    Result<> checked(int r) {
        if (sink_error_) return std::unexpected(*sink_error_);
        if (r == ARCHIVE_OK || r == ARCHIVE_WARN) return {};
        const int code = archive_errno(archive_.get());
        return fail(code > 0 ? code : EIO, "tar stream: {}", archive_error_string(archive_.get()));
    }

    Result<> add(const Item& item) {
        if (item.directory >= 0 && item.path == item.name &&
            std::ranges::find(options_.omit, item.name) != options_.omit.end())
            return {};
        const auto mode = item.status.st_mode;
        if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode)) {
            ++outcome_.skipped;
            return {};
        }
        THAW_TRY(auto entry, make_entry(item));
        std::optional<Fd> content;
        if (S_ISREG(mode) && archive_entry_hardlink(entry.get()) == nullptr) {
            THAW_TRY(content, open_content(item));
        }
        THAW_CHECK(checked(archive_write_header(archive_.get(), entry.get())));
        if (content) THAW_CHECK(copy(*content, item));
        ++outcome_.done.files;
        return report();
    }

    Result<EntryOwner> make_entry(const Item& item) {
        EntryOwner entry(archive_entry_new(), &archive_entry_free);
        if (!entry) return fail(ENOMEM, "libarchive");
        archive_entry_copy_stat(entry.get(), &item.status);
        archive_entry_set_uid(entry.get(), 0);
        archive_entry_set_gid(entry.get(), 0);
        archive_entry_copy_pathname(entry.get(), item.path.c_str());
        if (S_ISLNK(item.status.st_mode)) {
            THAW_TRY(const auto target, read_link(item));
            archive_entry_copy_symlink(entry.get(), target.c_str());
        }
        if (S_ISREG(item.status.st_mode) && item.status.st_nlink > 1) {
            const auto key = std::pair(item.status.st_dev, item.status.st_ino);
            const auto [known, first] = links_.try_emplace(key, item.path);
            if (!first) {
                archive_entry_copy_hardlink(entry.get(), known->second.c_str());
                archive_entry_unset_size(entry.get());
            }
        }
        return entry;
    }

    static Result<std::string> read_link(const Item& item) {
        std::array<char, PATH_MAX> target{};
        const auto size =
            readlinkat(item.directory, item.name.c_str(), target.data(), target.size());
        if (size < 0) return fail_errno(errno, "{}", item.path);
        return std::string(target.data(), static_cast<std::size_t>(size));
    }

    static Result<Fd> open_content(const Item& item) {
        THAW_TRY(auto file, open_at(item.directory, item.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
        struct stat now{};
        if (fstat(file.get(), &now) < 0) return fail_errno(errno, "{}", item.path);
        if (now.st_ino != item.status.st_ino || now.st_size != item.status.st_size)
            return fail(ESTALE, "{} changed while it was read", item.path);
        return file;
    }

    // The header has promised the size, so exactly that many bytes go out.
    Result<> copy(const Fd& file, const Item& item) {
        auto left = static_cast<std::uint64_t>(item.status.st_size);
        while (left > 0) {
            const auto part = std::min<std::uint64_t>(left, buffer_.size());
            const auto n = ::read(file.get(), buffer_.data(), part);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return fail_errno(errno, "{}", item.path);
            if (n == 0) return fail(ESTALE, "{} became shorter while it was read", item.path);
            const auto size = static_cast<std::size_t>(n);
            if (archive_write_data(archive_.get(), buffer_.data(), size) != n)
                return checked(ARCHIVE_FATAL);
            left -= size;
            outcome_.done.bytes += size;
            THAW_CHECK(report());
        }
        return {};
    }

    Result<> add_end() {
        const EntryOwner entry(archive_entry_new(), &archive_entry_free);
        if (!entry) return fail(ENOMEM, "libarchive");
        archive_entry_copy_pathname(entry.get(), options_.end_member.c_str());
        archive_entry_set_filetype(entry.get(), AE_IFREG);
        archive_entry_set_perm(entry.get(), 0600);
        archive_entry_set_size(entry.get(), static_cast<la_int64_t>(options_.end_content.size()));
        THAW_CHECK(checked(archive_write_header(archive_.get(), entry.get())));
        const auto& content = options_.end_content;
        if (archive_write_data(archive_.get(), content.data(), content.size()) < 0)
            return checked(ARCHIVE_FATAL);
        return {};
    }

    Result<> report() {
        if (options_.progress(outcome_.done)) return {};
        return fail(ECANCELED, "interrupted");
    }

    const TarOptions& options_;
    std::map<std::pair<dev_t, ino_t>, std::string> links_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(kBufferSize);
    std::optional<Error> sink_error_;
    TarOutcome outcome_;
    // Last, so that it goes first: the end of an archive that was cut off writes once more.
    std::unique_ptr<archive, decltype(&archive_write_free)> archive_{
        archive_write_new(), &archive_write_free
    };
};

} // namespace

Result<Fd> open_source(const std::string& path) {
    return open_file(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
}

Result<TreeTotals> measure_tree(int directory, const std::function<bool()>& go_on) {
    TreeTotals totals;
    Walker walker([&](const Item& item) -> Result<> {
        if (!go_on()) return fail(ECANCELED, "interrupted");
        ++totals.files;
        if (S_ISREG(item.status.st_mode))
            totals.bytes += static_cast<std::uint64_t>(item.status.st_size);
        return {};
    });
    THAW_CHECK(walker.walk(directory, "", 0));
    return totals;
}

Result<TarOutcome> stream_tree(int directory, const TarOptions& options) {
    return Writer(options).run(directory);
}

} // namespace thaw::ctl
