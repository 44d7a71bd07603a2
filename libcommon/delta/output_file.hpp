// SPDX-License-Identifier: MIT
#pragma once

// A large file that appears under its name whole or not at all. It has no name until then where
// the file system can do that (O_TMPFILE), so that nothing stays behind whatever happens to the
// process; elsewhere a hidden one, which the next OutputFile in that folder clears away.

#include "core/fd.hpp"

#include <sys/types.h>

#include <string>

namespace thaw::delta {

enum class Existing { Refuse, Replace };

class OutputFile {
public:
    // EEXIST at once when `path` exists and is not to be replaced, EISDIR and the like when it can
    // never be. Readable and writable; `mode` is what it gets whatever the umask.
    static Result<OutputFile>
    create(const std::string& path, Existing existing, mode_t mode = 0600);
    OutputFile(OutputFile&&) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;
    ~OutputFile(); // not published: gone

    int fd() const { return fd_.get(); }
    // fsync, name, fsync of the folder. EEXIST when somebody took the name meanwhile.
    Result<> publish();

private:
    OutputFile(Fd folder, std::string name, Existing existing);
    Result<> make_named(mode_t mode);
    Result<> link_as(const std::string& name);
    Result<> rename_to_final();

    Fd folder_;
    std::string name_;
    Existing existing_;
    Fd fd_;              // a named one holds a flock()
    std::string hidden_; // the name it has meanwhile; empty: none
};

} // namespace thaw::delta
