// SPDX-License-Identifier: MIT
#pragma once

// A hidden directory ".NAME.XXXXXXXX.partial" below the image root in which an image grows until
// one rename publishes it. Its maker holds a flock() on it, which the kernel drops with the
// process: clean_leftovers() removes exactly the directories whose maker is gone.

#include "core/fd.hpp"

#include <string>
#include <string_view>

namespace thaw::image {

class Staging {
public:
    // `root_fd` is the opened image root at `root`; both must outlive the object.
    static Result<Staging> create(int root_fd, std::string root, std::string_view name);
    Staging(Staging&&) noexcept;
    Staging& operator=(Staging&&) = delete;
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    // Removes the directory unless it was published.
    ~Staging();

    int directory() const { return directory_.get(); }
    // Renames it to `name` and makes that durable. EEXIST when the name is taken.
    Result<> publish(const std::string& name);

private:
    Staging(int root_fd, std::string root, std::string entry, Fd directory);
    int root_fd_;
    std::string root_;
    std::string entry_; // empty once published
    Fd directory_;      // holds the lock
};

// Whether a directory entry of the root is one of ours that a crash may leave.
bool is_leftover_name(std::string_view entry);
// A fresh hidden name for `name`.
Result<std::string> hidden_name(std::string_view name);
// Removes the leftovers nobody works on; how many.
Result<unsigned> clean_leftovers(int root_fd, const std::string& root);

} // namespace thaw::image
