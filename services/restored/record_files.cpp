// SPDX-License-Identifier: MIT
#include "record_files.hpp"

#include "core/file.hpp"
#include "image/access_log.hpp"
#include "image/memory_map.hpp"
#include "image/memory_reader.hpp"
#include "image/seal.hpp"
#include "image/working_set.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::restore {

namespace {

// A file that gets its name once it is whole. A crash leaves it under a name that
// image::Store::clean() removes.
class NewFile {
public:
    static Result<NewFile> create(int directory, const char* name) {
        auto hidden = fmt::format("{}{}.{}", image::kTemporaryPrefix, name, ::gettid());
        THAW_TRY(
            auto fd,
            open_beneath(
                directory, hidden, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, image::kFileMode
            )
        );
        NewFile file(directory, name, std::move(hidden), std::move(fd));
        struct stat st{};
        // Readable like the other files of the image; without the right to it only root reads it.
        if (fstat(directory, &st) == 0) (void)!fchown(file.fd_.get(), 0, st.st_gid);
        return file;
    }
    NewFile(NewFile&&) noexcept = default;
    NewFile& operator=(NewFile&&) = delete;
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;
    ~NewFile() {
        if (fd_) (void)unlinkat(directory_, hidden_.c_str(), 0);
    }

    int fd() const { return fd_.get(); }
    Result<> publish() {
        if (fsync(fd_.get()) != 0) return fail_errno(errno, "write {} to disk", name_);
        if (renameat(directory_, hidden_.c_str(), directory_, name_) != 0)
            return fail_errno(errno, "rename to {}", name_);
        fd_.reset();
        return {};
    }

private:
    NewFile(int directory, const char* name, std::string hidden, Fd fd)
        : directory_(directory), name_(name), hidden_(std::move(hidden)), fd_(std::move(fd)) {}
    int directory_;
    const char* name_;
    std::string hidden_;
    Fd fd_;
};

Result<image::AccessLog>
merge(const std::vector<Fd>& logs, const image::Manifest& manifest, bool settled) {
    const auto pages = manifest.memory_size / image::kMapPageSize;
    std::vector<image::AccessLog> loaded;
    for (const auto& fd : logs) {
        THAW_TRY(auto log, image::load_access_log(fd.get(), manifest.id, pages));
        log.settled = settled;
        loaded.push_back(std::move(log));
    }
    if (loaded.size() == 1) return std::move(loaded.front());
    return image::merge_access_logs(loaded);
}

} // namespace

Result<RecordedFiles> write_recording(
    const image::Store& images, const std::string& name, const std::vector<Fd>& logs, bool settled,
    const std::atomic<bool>& canceled
) {
    THAW_TRY(const auto opened, images.open(name));
    const auto& manifest = opened.manifest;
    THAW_TRY(const auto log, merge(logs, manifest, settled));
    if (log.pages.empty())
        return fail(
            ENODATA, "{}",
            logs.size() == 1 ? "the VM touched no page" : "the runs have no page in common"
        );
    THAW_TRY(const auto map, image::MemoryMap::load(opened.memory_map.get(), manifest.id));
    const int directory = opened.directory.get();
    if (flock(directory, LOCK_EX | LOCK_NB) != 0)
        return fail(EBUSY, "another operation works on image {}", name);
    THAW_TRY(auto log_file, NewFile::create(directory, image::kAccessLogFile));
    THAW_CHECK(write_all(log_file.fd(), image::encode_access_log(log)));
    THAW_TRY(auto set_file, NewFile::create(directory, image::kWorkingSetFile));
    if (canceled) return fail(ECANCELED, "canceled");
    THAW_CHECK(image::write_working_set(set_file.fd(), log, image::MemoryReader(opened), map));
    if (canceled) return fail(ECANCELED, "canceled");
    // Either file is right by itself: a crash between the two leaves an older working set.
    THAW_CHECK(log_file.publish());
    THAW_CHECK(set_file.publish());
    if (fsync(directory) != 0) return fail_errno(errno, "write the image's directory to disk");
    return RecordedFiles{
        .pages = log.pages.size(),
        .bytes = log.pages.size() * manifest.page_size,
        .settled = log.settled,
    };
}

} // namespace thaw::restore
