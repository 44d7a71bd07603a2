// SPDX-License-Identifier: MIT
#pragma once

// thaw-fetchd itself, started by a socket, a client of it, and a web server with a proxy that
// spoils answers. One web server for all tests of a program.

#include "api/source_errors.hpp"
#include "core/file.hpp"
#include "fakes/must.hpp"
#include "fakes/run_until.hpp"
#include "fakes/socket_activated.hpp"
#include "fakes/web_lab.hpp"
#include "fetch/fetch_client.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace thaw::fetch {

class FetchTest : public ::testing::Test {
protected:
    static constexpr std::size_t kSize = 3 << 20; // of the object that is fetched
    static constexpr const char* kQuick = "[Fetch]\nConnectTimeoutSec=2s\nStallTimeoutSec=500ms\n"
                                          "TimeoutSec=20s\nIdleExitSec=30s\n";

    static void SetUpTestSuite() {
        if (!fakes::WebLab::available()) return;
        web_folder_ = std::make_unique<test::TemporaryDirectory>();
        web_ = fakes::must(fakes::WebLab::create(web_folder_->path(), FAULT_PROXY));
    }
    static void TearDownTestSuite() {
        web_.reset();
        web_folder_.reset();
    }

    void SetUp() override {
        if (!web_) GTEST_SKIP() << "needs nginx, python3 and openssl";
        web_->clear();
        web_->forget();
        loop_.emplace(fakes::must(EventLoop::create()));
        content_ = noise(kSize, 1);
        serve("/object", content_);
        start(kQuick);
    }
    void TearDown() override {
        client_.reset();
        service_.reset();
        loop_.reset();
    }

    // (Re)starts the service with another configuration.
    void start(const std::string& config) {
        client_.reset();
        service_.reset();
        folder_.write("fetchd.conf", config);
        std::filesystem::create_directories(folder_ / "credentials");
        log_ = Fd(::memfd_create("log", 0)); // inherited
        service_ = fakes::must(fakes::SocketActivated::create(
            *loop_, folder_ / "fetch.sock", SOCK_SEQPACKET,
            {
                .program = FETCHD,
                .descriptors = {},
                .environment =
                    {{"THAW_FETCHD_CONFIG", folder_ / "fetchd.conf"},
                     {"CREDENTIALS_DIRECTORY", folder_ / "credentials"},
                     {"THAW_LOG_LEVEL", "debug"}},
                .log = log_.get(),
            }
        ));
        client_ = fakes::must(FetchClient::create(*loop_, service_->path()));
    }
    void credential(const std::string& text) {
        folder_.write("credentials/sources_test.conf", "[Source]\n" + text);
        folder_.write("credentials/sources_ca.pem", fakes::must(read_file(web_->file("ca.pem"))));
        for (const char* name : {"client.pem", "client.key"})
            folder_.write(
                std::string("credentials/sources_") + name, fakes::must(read_file(web_->file(name)))
            );
        start(kQuick);
    }

    static std::string noise(std::size_t size, unsigned seed) {
        std::minstd_rand random(seed);
        std::string text(size, '\0');
        for (auto& c : text)
            c = static_cast<char>(random() >> 8);
        return text;
    }
    static void serve(const std::string& path, const std::string& content) {
        std::ofstream(web_->www(path), std::ios::binary) << content;
    }
    static Fd memory(std::size_t size) {
        Fd fd(::memfd_create("target", MFD_CLOEXEC));
        EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
        return fd;
    }
    static std::string bytes(const Fd& fd, std::size_t offset, std::size_t size) {
        std::string text(size, '\0');
        const auto n = ::pread(fd.get(), text.data(), size, static_cast<off_t>(offset));
        text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
        return text;
    }

    // Waits for the end of what `begin` starts with the callback it is given.
    template <class Begin>
    FetchEnd end_of(Begin begin) {
        std::optional<FetchEnd> got;
        auto id = begin([&](FetchEnd end) { got = std::move(end); });
        EXPECT_TRUE(id) << id.error().message();
        EXPECT_FALSE(got); // never from inside the call
        EXPECT_TRUE(fakes::run_until(*loop_, [&] { return got.has_value(); }, 30 * kUsecPerSec));
        return got ? std::move(*got) : FetchEnd{.result = fail(ETIME, "no answer at all")};
    }
    FetchEnd probe(const std::string& url) {
        return end_of([&](auto done) { return client_->probe(url, done); });
    }
    // The identity of an object that is there.
    SourceIdentity identity(const std::string& url) {
        auto end = probe(url);
        EXPECT_TRUE(end.result) << end.result.error().message();
        return end.identity;
    }
    FetchEnd fetch(const FetchRequest& request) {
        landed_.clear();
        return end_of([&](auto done) {
            return client_->fetch(
                request, [this](std::uint64_t landed) { landed_.push_back(landed); }, done
            );
        });
    }
    // All of the object, past the proxy's faults, into a fresh memfd.
    FetchRequest whole(const std::string& url) {
        target_ = memory(kSize);
        return {
            .url = url,
            .identity = identity(web_->url("/object")),
            .length = kSize,
            .target = target_.get(),
        };
    }
    // What a fetch of all of it through the proxy comes to.
    FetchEnd spoiled(const fakes::Fault& fault) {
        const auto request = whole(web_->proxied("/object"));
        web_->spoil(fault);
        return fetch(request);
    }
    static std::string name(const FetchEnd& end) {
        return end.result ? "none" : std::string(end.result.error().bus_name());
    }
    static std::string text(const FetchEnd& end) {
        return end.result ? "fetched" : end.result.error().message();
    }
    // Every byte that is said to have landed is the right one, and nothing else was written.
    void expect_only_good_bytes(const FetchEnd& end) {
        EXPECT_TRUE(bytes(target_, 0, end.landed) == content_.substr(0, end.landed));
        EXPECT_TRUE(
            bytes(target_, end.landed, kSize - end.landed) == std::string(kSize - end.landed, 0)
        );
    }
    std::string log() const {
        struct stat status{};
        EXPECT_EQ(::fstat(log_.get(), &status), 0);
        return bytes(log_, 0, static_cast<std::size_t>(status.st_size));
    }

    static inline std::unique_ptr<test::TemporaryDirectory> web_folder_;
    static inline std::unique_ptr<fakes::WebLab> web_;
    test::TemporaryDirectory folder_;
    std::optional<EventLoop> loop_;
    Fd log_;
    std::unique_ptr<fakes::SocketActivated> service_;
    std::unique_ptr<FetchClient> client_;
    std::string content_;
    Fd target_;
    std::vector<std::uint64_t> landed_;
};

} // namespace thaw::fetch
