// SPDX-License-Identifier: MIT
#include "pause_book.hpp"

#include "core/file.hpp"
#include "core/text.hpp"
#include "log/log.hpp"

#include <filesystem>
#include <utility>

namespace thaw::diskguard {

PauseBook PauseBook::load(std::string path) {
    PauseBook book(std::move(path));
    const auto text = read_file(book.path_);
    if (text)
        for (auto& id : split_words(*text))
            book.volumes_.insert(std::move(id));
    else if (text.error().code() != ENOENT)
        log_warning("paused writers of an earlier run may be resumed: {}", text.error().message());
    return book;
}

Result<> PauseBook::set(const std::string& volume, bool paused) {
    const bool changed = paused ? volumes_.insert(volume).second : volumes_.erase(volume) > 0;
    if (!changed) return {};
    THAW_CHECK(make_directories(std::filesystem::path(path_).parent_path().string()));
    std::string text;
    for (const auto& id : volumes_)
        text += id + "\n";
    return write_file_atomic(path_, text);
}

} // namespace thaw::diskguard
