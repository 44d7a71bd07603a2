// SPDX-License-Identifier: MIT
#include "delta/compare.hpp"

#include "core/file.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <cstring>

namespace thaw::delta {

namespace {

constexpr std::uint64_t kPiece = 512; // what is counted
constexpr std::uint64_t kCompareStep = 1 << 20;

enum class Source { File, Zero, Below };

// What a side has from some byte on.
struct Stretch {
    Source source = Source::Zero;
    int fd = -1;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

// Walks a side from its beginning to its end.
class Walk {
public:
    explicit Walk(const Side& side) : side_(side) {
        if (side.difference != nullptr) data_ = side.difference->content().data_offset;
    }

    // At `at`, which never goes back. Not longer than the side.
    Stretch stretch(std::uint64_t at) {
        if (side_.difference == nullptr)
            return {.source = Source::File, .fd = side_.plain, .offset = at, .length = size() - at};
        const Delta& delta = side_.difference->content();
        for (; run_ < delta.runs.size(); ++run_) {
            const DeltaRun& run = delta.runs[run_];
            const std::uint64_t begin = run.first_block * delta.geometry.block_size;
            const std::uint64_t length = delta.bytes_of(run);
            if (at < begin) return below(at, begin);
            const std::uint64_t inside = at - begin;
            if (inside < length)
                return {
                    .source = run.kind == RunKind::Zero ? Source::Zero : Source::File,
                    .fd = side_.difference->fd(),
                    .offset = data_ + inside,
                    .length = length - inside,
                };
            if (run.kind == RunKind::Data) data_ += length;
        }
        return below(at, size());
    }
    std::uint64_t size() const {
        return side_.difference != nullptr ? side_.difference->content().geometry.size : side_.size;
    }

private:
    Stretch below(std::uint64_t at, std::uint64_t end) const {
        const BaseReference& base = side_.difference->content().base;
        if (at >= base.size) return {.source = Source::Zero, .length = end - at};
        const std::uint64_t length = std::min(end, base.size) - at;
        if (side_.base < 0) return {.source = Source::Below, .length = length};
        return {.source = Source::File, .fd = side_.base, .offset = at, .length = length};
    }

    const Side& side_;
    std::size_t run_ = 0;
    std::uint64_t data_ = 0; // where the run's data lie in the file
};

Result<> read(const Stretch& stretch, std::span<std::byte> buffer) {
    if (stretch.source == Source::File) return pread_exact(stretch.fd, buffer, stretch.offset);
    std::ranges::fill(buffer, std::byte{0});
    return {};
}

void count(
    Comparison& result, std::uint64_t at, std::span<const std::byte> a, std::span<const std::byte> b
) {
    if (std::memcmp(a.data(), b.data(), a.size()) == 0) return;
    for (std::size_t i = 0; i < a.size(); i += kPiece) {
        const std::size_t length = std::min<std::size_t>(kPiece, a.size() - i);
        if (std::memcmp(&a[i], &b[i], length) == 0) continue;
        result.differing_bytes += length;
        if (!result.first) result.first = at + i;
    }
}

bool knows_all(const Side& side) {
    return side.difference == nullptr || side.base >= 0 ||
           side.difference->content().base.form == BaseForm::None;
}

// What can be said without reading.
Result<std::string>
unlike(const Side& a, const Side& b, std::uint64_t a_size, std::uint64_t b_size) {
    if (knows_all(a) != knows_all(b))
        return fail(EINVAL, "one of them is a difference without its base");
    if (a_size != b_size) return fmt::format("sizes differ: {} and {} bytes", a_size, b_size);
    if (!knows_all(a) && a.difference->content().base != b.difference->content().base)
        return std::string("they lie over different bases");
    return std::string();
}

} // namespace

Result<Comparison> compare(const Side& a, const Side& b, const Progress& progress) {
    Walk left(a);
    Walk right(b);
    Comparison result;
    THAW_TRY(result.reason, unlike(a, b, left.size(), right.size()));
    result.same = result.reason.empty();
    if (!result.same) return result;
    std::vector<std::byte> left_bytes(kCompareStep);
    std::vector<std::byte> right_bytes(kCompareStep);
    const std::uint64_t size = left.size();
    for (std::uint64_t at = 0; at < size;) {
        const Stretch l = left.stretch(at);
        const Stretch r = right.stretch(at);
        std::uint64_t length = std::min(l.length, r.length);
        const bool one_below = (l.source == Source::Below) != (r.source == Source::Below);
        if (one_below) {
            result.differing_bytes += length;
            if (!result.first) result.first = at;
        } else if (l.source == Source::File || r.source == Source::File) {
            length = std::min(length, kCompareStep);
            const auto x = std::span(left_bytes).first(length);
            const auto y = std::span(right_bytes).first(length);
            THAW_CHECK(read(l, x));
            THAW_CHECK(read(r, y));
            count(result, at, x, y);
        }
        at += length;
        if (progress && !progress(at, size)) return fail(ECANCELED, "canceled");
    }
    result.same = result.differing_bytes == 0;
    if (!result.same)
        result.reason = fmt::format(
            "{} differ, the first at byte {}", format_size(result.differing_bytes),
            result.first.value_or(0)
        );
    return result;
}

} // namespace thaw::delta
