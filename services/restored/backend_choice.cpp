// SPDX-License-Identifier: MIT
#include "backend_choice.hpp"

#include "api/restore1.hpp"
#include "core/text.hpp"
#include "image/manifest.hpp"

namespace thaw::restore {

namespace {

constexpr int kPercent = 100;

// Why nothing but the pager will do; empty where a file mapping would as well.
std::string only_by_pager(const BackendQuestion& question) {
    if (question.page_size != image::kPageSize4K)
        return fmt::format("an image with pages of {}", format_size(question.page_size));
    if (question.layered) return "an image that is a difference to another one";
    if (question.remote) return "an image whose memory is somewhere else";
    if (question.tracked) return "a VM whose writes are tracked";
    return {};
}

BackendChoice choose_automatically(const BackendQuestion& question) {
    if (const auto what = only_by_pager(question); !what.empty())
        return {Backend::Uffd, what + " is loaded by the pager only"};
    if (question.in_use)
        return {Backend::Uffd, "another VM runs from the image; the pager serves both"};
    if (question.recorded)
        return {Backend::Uffd, "the image has a working set, which the pager loads ahead"};
    const int percent = static_cast<int>(question.cached * kPercent);
    if (question.cached < kCachedEnough)
        return {Backend::Uffd, fmt::format("{} % of the image is in the page cache", percent)};
    return {
        Backend::File,
        fmt::format("the image is local, {} % in the page cache and used by no other VM", percent)
    };
}

} // namespace

Result<BackendChoice> choose_backend(const BackendQuestion& question) {
    const bool by_policy = question.policy != Backend::Auto;
    if (by_policy && question.requested != Backend::Auto && question.requested != question.policy)
        return fail_named(
            restore1::error::kBackendUnsupported, EOPNOTSUPP,
            "memory backend {} was asked for, but the policy allows {} only",
            kBackendNames.name(question.requested), kBackendNames.name(question.policy)
        );
    const auto given = by_policy ? question.policy : question.requested;
    if (given == Backend::Auto) return choose_automatically(question);
    if (const auto what = only_by_pager(question); given == Backend::File && !what.empty())
        return fail_named(
            restore1::error::kBackendUnsupported, EOPNOTSUPP, "{} cannot be loaded by file mapping",
            what
        );
    return BackendChoice{given, by_policy ? "set by policy" : "asked for by the caller"};
}

} // namespace thaw::restore
