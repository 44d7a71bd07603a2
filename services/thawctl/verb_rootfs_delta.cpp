// SPDX-License-Identifier: MIT

// rootfs import, compare, show: differences without the VM they came from.

#include "core/file.hpp"
#include "delta/apply.hpp"
#include "delta/base.hpp"
#include "delta/compare.hpp"
#include "delta/output_file.hpp"
#include "exit_codes.hpp"
#include "fields.hpp"
#include "guard_view.hpp"
#include "verbs.hpp"
#include "with_progress.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>

namespace thaw::ctl {

namespace {

using delta::BaseForm;
using delta::DeltaFile;
using delta::DeltaKind;

constexpr int kExitDiffers = 1;
constexpr int kExitTrouble = 2; // as cmp(1)

Result<Fd> open_base(const std::string& path, bool writable) {
    const int mode = writable ? O_RDWR : O_RDONLY;
    return open_file(path, mode | O_NONBLOCK | O_NOCTTY);
}

Result<> check_base(const DeltaFile& file, int base) {
    return with_progress("Checking the base", [&](const auto& progress) {
        return delta::check_base(base, file.content().base, progress);
    });
}

// What is missing among the arguments, given what the difference lies over.
Result<> check_arguments(const RootfsArguments& arguments, const DeltaFile& file) {
    if (file.content().kind != DeltaKind::Disk)
        return fail(
            EINVAL, "{} is of a memory: see \"thawctl image import-delta\"", arguments.file
        );
    if (arguments.output.empty() && !arguments.in_place)
        return fail(EINVAL, "give either OUT or --in-place");
    const bool has_base = file.content().base.form != BaseForm::None;
    if (has_base && arguments.base.empty())
        return fail(EINVAL, "{} lies over a base: name it with --base", arguments.file);
    if (arguments.in_place && arguments.base.empty())
        return fail(EINVAL, "--in-place changes the base: name it with --base");
    return {};
}

Result<> make_disk(
    const RootfsArguments& arguments, const DeltaFile& file, int base, const OutputOptions& options
) {
    const auto existing = arguments.force ? delta::Existing::Replace : delta::Existing::Refuse;
    THAW_TRY(auto output, delta::OutputFile::create(arguments.output, existing));
    struct stat st{};
    if (base >= 0 && fstat(base, &st) < 0) return fail_errno(errno, "{}: stat", arguments.base);
    constexpr std::uint64_t kBlock = 512; // of st_blocks
    THAW_TRY(
        const auto lease,
        admit_work(
            folder_of(arguments.output),
            static_cast<std::uint64_t>(st.st_blocks) * kBlock + file.content().data_bytes,
            "disk of " + arguments.file, options
        )
    );
    THAW_CHECK(with_progress("Making " + arguments.output, [&](const auto& progress) {
        return delta::apply_to_new(file, base, output.fd(), progress);
    }));
    return output.publish();
}

int report_import(
    const RootfsArguments& arguments, const DeltaFile& file, const OutputOptions& options
) {
    const auto& content = file.content();
    const std::string& made = arguments.in_place ? arguments.base : arguments.output;
    if (options.json != JsonMode::Off) {
        print_json(
            {{"file", arguments.file},
             {"disk", made},
             {"size", content.geometry.size},
             {"data_blocks", content.data_blocks},
             {"zero_blocks", content.zero_blocks}},
            options.json
        );
        return kExitOk;
    }
    fmt::print(
        "{} {}: {}, of which {} blocks are not the base's.\n",
        arguments.in_place ? "Changed" : "Made", made, format_size(content.geometry.size),
        content.data_blocks + content.zero_blocks
    );
    return kExitOk;
}

// One side of a comparison: a difference, checked, or a plain file.
struct OpenSide {
    Fd plain;
    std::optional<DeltaFile> difference;
    std::uint64_t size = 0;

    delta::Side side(int base) const {
        if (difference) return {.difference = &*difference, .base = base};
        return {.plain = plain.get(), .size = size};
    }
};

Result<OpenSide> open_side(const std::string& path) {
    OpenSide side;
    THAW_TRY(side.plain, open_base(path, false));
    const auto end = lseek(side.plain.get(), 0, SEEK_END); // a block device has no st_size
    if (end < 0) return fail_errno(errno, "{}: size", path);
    side.size = static_cast<std::uint64_t>(end);
    THAW_TRY(const bool is_difference, DeltaFile::is_one(side.plain.get()));
    if (!is_difference) return side;
    auto file = DeltaFile::load(std::move(side.plain));
    if (!file) return std::unexpected(std::move(file).error().with_context(path));
    const auto intact = with_progress("Checking " + path, [&](const auto& progress) {
        return file->verify(progress);
    });
    if (!intact) return std::unexpected(Error(intact.error()).with_context(path));
    side.difference.emplace(std::move(*file));
    return side;
}

Result<delta::Comparison> compare_files(const RootfsArguments& arguments) {
    THAW_TRY(const OpenSide a, open_side(arguments.file));
    THAW_TRY(const OpenSide b, open_side(arguments.other));
    Fd base;
    if (!arguments.base.empty()) {
        THAW_TRY(base, open_base(arguments.base, false));
        for (const OpenSide* side : {&a, &b})
            if (side->difference) THAW_CHECK(check_base(*side->difference, base.get()));
    }
    return with_progress("Comparing", [&](const auto& progress) {
        return delta::compare(a.side(base.get()), b.side(base.get()), progress);
    });
}

std::string base_text(const delta::BaseReference& base) {
    const std::string id = hex_encode(base.id.data(), base.id.size());
    switch (base.form) {
    case BaseForm::None:
        return "none";
    case BaseForm::Content:
        return fmt::format("{}, XXH3-128 {}", format_size(base.size), id);
    case BaseForm::Image:
        return "image " + id;
    }
    return {};
}

} // namespace

Result<int> verb_rootfs_import(const RootfsArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const DeltaFile file, DeltaFile::open(arguments.file));
    THAW_CHECK(check_arguments(arguments, file));
    Fd base;
    if (!arguments.base.empty()) {
        THAW_TRY(base, open_base(arguments.base, arguments.in_place));
        auto checked = arguments.assume_base ? Result<>() : check_base(file, base.get());
        if (!checked && checked.error().code() == ENOTSUP)
            print_hint("Name its file and say --assume-base if you know that it is the right one.");
        if (!checked)
            return std::unexpected(std::move(checked).error().with_context(arguments.base));
    }
    if (arguments.in_place) {
        THAW_CHECK(with_progress("Changing " + arguments.base, [&](const auto& progress) {
            return delta::apply_in_place(file, base.get(), progress);
        }));
    } else {
        THAW_CHECK(make_disk(arguments, file, base.get(), options));
    }
    return report_import(arguments, file, options);
}

Result<int> verb_rootfs_compare(const RootfsArguments& arguments, const OutputOptions& options) {
    const auto result = compare_files(arguments);
    if (!result) {
        print_error(result.error().message());
        return result.error().code() == ECANCELED ? kExitCanceled : kExitTrouble;
    }
    if (options.json != JsonMode::Off) {
        nlohmann::json value = {
            {"same", result->same},
            {"differing_bytes", result->differing_bytes},
            {"reason", result->reason},
        };
        const auto& first = result->first;
        value["first"] = first ? nlohmann::json(*first) : nlohmann::json();
        print_json(value, options.json);
    } else if (!result->same) {
        fmt::print("{} {} differ: {}\n", arguments.file, arguments.other, result->reason);
    }
    return result->same ? kExitOk : kExitDiffers;
}

Result<int> verb_rootfs_show(const RootfsArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const DeltaFile file, DeltaFile::open(arguments.file));
    const auto& content = file.content();
    const bool memory = content.kind == DeltaKind::Memory;
    const std::string id = hex_encode(content.id.data(), content.id.size());
    if (options.json != JsonMode::Off) {
        print_json(
            {{"kind", memory ? "memory" : "disk"},
             {"id", id},
             {"size", content.geometry.size},
             {"block_size", content.geometry.block_size},
             {"data_blocks", content.data_blocks},
             {"zero_blocks", content.zero_blocks},
             {"data_bytes", content.data_bytes},
             {"runs", content.runs.size()},
             {"created", content.created},
             {"base",
              {{"form", static_cast<unsigned>(content.base.form)},
               {"size", content.base.size},
               {"id", hex_encode(content.base.id.data(), content.base.id.size())}}}},
            options.json
        );
        return kExitOk;
    }
    Fields fields;
    fields.add("Of", memory ? "the memory of a VM" : "a disk");
    fields.add("Id", id);
    fields.add("Size", format_size(content.geometry.size));
    fields.add("Base", base_text(content.base));
    fields.add(
        "Changed",
        fmt::format(
            "{} in {} blocks of {}, {} blocks are zero", format_size(content.data_bytes),
            content.data_blocks, format_size(content.geometry.block_size), content.zero_blocks
        )
    );
    fields.add("Made", format_timestamp(content.created));
    print_text(fmt::format("● {}\n{}", printable(arguments.file), fields.text()), options);
    return kExitOk;
}

} // namespace thaw::ctl
