// SPDX-License-Identifier: MIT
#pragma once

// Requests to servers: any number of them, their bodies in pieces, with pauses.

#include "answer_check.hpp"
#include "http/curl_multi.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace thaw::fetchd {

class Transfer;

class Transfers {
public:
    // `loop` must outlive the object, and the object its transfers.
    static Result<std::unique_ptr<Transfers>> create(EventLoop& loop);

private:
    friend class Transfer;
    Transfers() = default;

    std::unique_ptr<http::CurlMulti> multi_;
};

// One HTTP request and its answer. Destroying it ends it; not from inside body() or supply().
class Transfer {
public:
    enum class Take { All, Later, Stop };
    struct Events {
        // A piece of the answer's body, at most 64 KiB. Later: it comes again after resume().
        std::function<Take(std::span<const std::byte>)> body;
        // Bytes of an upload: how many were put there; 0: the end; -1: after resume().
        std::function<int(std::span<std::byte>)> supply{};
        // Over. Called once, from the loop; may destroy the transfer.
        std::function<void(CURLcode)> end;
    };
    static constexpr long kBuffer = 64 << 10;

    Transfer(Transfers& transfers, Events events);
    ~Transfer();
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;

    // An option of libcurl; what goes wrong shows in start().
    template <class T>
    void set(CURLoption option, T value) {
        if (!easy_) return;
        const auto code = curl_easy_setopt(easy_.get(), option, value);
        if (code != CURLE_OK) worst_ = code;
    }
    void add_header(const std::string& line);
    Outcome<> start();
    // After Later or -1.
    void resume();
    // What has come of the head of the answer.
    Answer answer() const;
    // What libcurl says went wrong, for people.
    std::string error_text(CURLcode code) const;

private:
    friend class Transfers;
    static std::size_t on_body(char* data, std::size_t one, std::size_t size, void* user) noexcept;
    static std::size_t
    on_supply(char* data, std::size_t one, std::size_t size, void* user) noexcept;

    Transfers& transfers_;
    Events events_;
    http::Easy easy_;
    http::HeaderList headers_;
    std::string error_; // libcurl's buffer
    CURLcode worst_ = CURLE_OK;
    bool paused_ = false;
};

} // namespace thaw::fetchd
