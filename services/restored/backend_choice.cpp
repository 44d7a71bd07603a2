// SPDX-License-Identifier: MIT
#include "backend_choice.hpp"

#include "api/restore1.hpp"
#include "core/text.hpp"
#include "image/manifest.hpp"

namespace thaw::restore {

namespace {

constexpr int kPercent = 100;

BackendChoice choose_automatically(const BackendQuestion& question, bool huge_pages) {
    if (huge_pages) return {Backend::Uffd, "the image has 2 MiB pages, which only the pager loads"};
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
    const bool huge_pages = question.page_size != image::kPageSize4K;
    const auto given = by_policy ? question.policy : question.requested;
    if (given == Backend::Auto) return choose_automatically(question, huge_pages);
    if (given == Backend::File && huge_pages)
        return fail_named(
            restore1::error::kBackendUnsupported, EOPNOTSUPP,
            "an image with pages of {} cannot be loaded by file mapping",
            format_size(question.page_size)
        );
    return BackendChoice{given, by_policy ? "set by policy" : "asked for by the caller"};
}

} // namespace thaw::restore
