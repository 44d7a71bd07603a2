// SPDX-License-Identifier: MIT
// The oracle: what RAM holds against what it must hold.
#include "machine.hpp"
#include "touch_guard.hpp"

#include <fmt/format.h>

#include <atomic>
#include <future>
#include <map>
#include <thread>

namespace thaw::standin {
namespace {

using nlohmann::json;

/// Shared with the checking thread, which stays behind when a page is never served.
struct Check {
    std::shared_ptr<Reference> image;
    std::size_t wrong_max = 0;
    std::atomic<std::uint64_t> at{0};
    std::map<std::string, std::uint64_t> counts{};
    json first_wrong = json::array();
};

void check_all(const GuestMemory& memory, const PageLedger& ledger, Check& check) {
    std::uint8_t actual[small_page];
    for (std::uint64_t page = 0; page < memory.pages(); ++page) {
        check.at.store(page, std::memory_order_relaxed);
        std::string kind = "poisoned";
        if (guarded_copy(actual, memory.page(page), small_page)) {
            const Verdict verdict = judge(*check.image, memory, ledger, page, actual);
            if (verdict == Verdict::equal) {
                ++check.counts["equal"];
                continue;
            }
            kind = verdict_name(verdict);
        }
        ++check.counts[kind];
        if (check.first_wrong.size() < check.wrong_max) {
            check.first_wrong.push_back({{"offset", page * small_page}, {"kind", kind}});
        }
    }
}

json result_of(const Check& check, std::uint64_t pages, std::uint64_t elapsed_ns) {
    auto count = [&](const char* name) {
        const auto found = check.counts.find(name);
        return found == check.counts.end() ? 0 : found->second;
    };
    return {
        {"pages", pages},
        {"equal", count("equal")},
        {"wrong", pages - count("equal")},
        {"corrupt", count("wrong")},
        {"resurrected", count("resurrected")},
        {"unexpected_zero", count("unexpected_zero")},
        {"lost_write", count("lost_write")},
        {"poisoned", count("poisoned")},
        {"all_equal", count("equal") == pages},
        {"first_wrong", check.first_wrong},
        {"elapsed_us", elapsed_ns / 1000}
    };
}

} // namespace

Result<std::shared_ptr<Reference>> Machine::reference(const VerifyRequest& request) const {
    if (request.from_recipe) {
        if (!state_.recipe) {
            return fail("the snapshot was not made from a recipe");
        }
        return Reference::from_recipe(*state_.recipe);
    }
    const std::string path =
        request.memory_path.empty() ? snapshot_directory_ + "/memory" : request.memory_path;
    return Reference::from_file(path, state_.memory_bytes());
}

Result<json> Machine::verify(const VerifyRequest& request) {
    auto image = reference(request);
    if (!image) {
        return fail(image.error());
    }
    const bool was_running = !guest_->paused();
    if (auto done = pause(); !done) {
        return fail(done.error());
    }
    auto check = std::make_shared<Check>();
    check->image = *image;
    check->wrong_max = request.wrong_max;
    auto finished = std::make_shared<std::promise<void>>();
    auto future = finished->get_future();
    const std::uint64_t started = now_ns();
    std::thread([this, check, finished] {
        check_all(memory_, *ledger_, *check);
        finished->set_value();
    }).detach();
    if (request.timeout_ms == 0) {
        future.wait();
    } else if (future.wait_for(std::chrono::milliseconds(request.timeout_ms)) !=
               std::future_status::ready) {
        // Resuming the guest now would let it change what the abandoned thread still compares.
        return fail(fmt::format(
            "verify: page at offset {} was not served within {} ms", check->at.load() * small_page,
            request.timeout_ms
        ));
    }
    json result = result_of(*check, memory_.pages(), now_ns() - started);
    if (was_running) {
        guest_->resume();
    }
    return result;
}

Result<json> Machine::hash(std::uint64_t first, std::uint64_t count) {
    if (first + count > memory_.pages() || first + count < first) {
        return fail("hash: pages out of range");
    }
    const bool was_running = !guest_->paused();
    if (auto done = pause(); !done) {
        return fail(done.error());
    }
    std::uint64_t digest = 0;
    json pages = json::array();
    for (std::uint64_t page = 0; page < memory_.pages(); ++page) {
        std::uint8_t actual[small_page];
        const bool alive = guarded_copy(actual, memory_.page(page), small_page);
        const std::uint64_t one = alive ? page_digest(actual) : 0;
        digest = combine_digest(digest, one);
        if (page - first < count) {
            pages.push_back(fmt::format("{:016x}", one));
        }
    }
    if (was_running) {
        guest_->resume();
    }
    return json{
        {"digest", fmt::format("{:016x}", digest)},
        {"pages", memory_.pages()},
        {"first", first},
        {"page_digests", std::move(pages)}
    };
}

} // namespace thaw::standin
