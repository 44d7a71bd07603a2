// SPDX-License-Identifier: MIT
#pragma once

// A device at work, in a thread of its own: the kernel keeps the one that runs it.

#include "device.hpp"

#include <memory>
#include <thread>

namespace thaw::nbd {

class Attachment {
public:
    // Any free device for the export behind `socket`, up and of its full size. EBUSY when all are
    // in use, for a while.
    static Result<std::unique_ptr<Attachment>> start(Fd socket, const Export& what);
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;
    ~Attachment();

    const Device& device() const { return device_; }
    // Readable once the connection is over.
    int ended() const { return ended_.get(); }
    // Has it end, whether or not the server still answers.
    void end() const;
    // Waits for that, and tells how it ended.
    Result<> finish();

private:
    Attachment(Fd socket, Device device, Fd ended);
    Result<> await_up() const;

    Fd socket_;
    Device device_;
    Fd ended_;
    Result<> result_;
    std::thread thread_; // last: it uses the others
};

} // namespace thaw::nbd
