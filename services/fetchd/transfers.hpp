// SPDX-License-Identifier: MIT
#pragma once

// libcurl's multi interface on the event loop: any number of transfers, one thread, nothing blocks.

#include "answer_check.hpp"
#include "event/event.hpp"

#include <curl/curl.h>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace thaw::fetchd {

struct EasyCloser {
    void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
};
struct MultiCloser {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};
struct ListCloser {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};

class Transfer;

class Transfers {
public:
    // `loop` must outlive the object, and the object its transfers.
    static Result<std::unique_ptr<Transfers>> create(EventLoop& loop);

private:
    friend class Transfer;
    explicit Transfers(EventLoop& loop) : loop_(loop) {}
    Result<> init();
    static int on_socket(CURL*, curl_socket_t fd, int what, void* user, void*) noexcept;
    static int on_timer(CURLM*, long milliseconds, void* user) noexcept;
    void watch(curl_socket_t fd, int what);
    void act(curl_socket_t fd, int events);
    void collect();
    void collect_later();

    EventLoop& loop_;
    std::map<curl_socket_t, EventSource> sockets_;
    EventSource timer_;
    EventSource later_;
    std::vector<Transfer*> active_;
    std::unique_ptr<CURLM, MultiCloser> multi_; // gone first: it reports its sockets' end
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
    std::unique_ptr<CURL, EasyCloser> easy_;
    std::unique_ptr<curl_slist, ListCloser> headers_;
    std::string error_; // libcurl's buffer
    CURLcode worst_ = CURLE_OK;
    bool paused_ = false;
};

} // namespace thaw::fetchd
